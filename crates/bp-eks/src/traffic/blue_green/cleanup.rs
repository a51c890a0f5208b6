//! Clean up the idle slot: scale its Deployment to zero and delete the test Service.

use backon::BackoffBuilder;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Preconditions};

use super::{
    SlotSwitch,
    stage::is_ours,
    state::{CLEANED_UP, Traffic},
};
use crate::traffic::{
    api::{Applied, pauses},
    error::TrafficError,
};

impl SlotSwitch {
    pub(super) async fn clean_up(&self) -> Result<Traffic, TrafficError> {
        let mut pauses = pauses().build();
        let idle = loop {
            let survey = self.survey().await?;
            let idle = survey.traffic.idle;
            let version = survey.service.metadata.resource_version.as_deref();
            // Of two concurrent changes of the Service, the resource version lets only one succeed.
            let config = self.config(version, &survey.selector, Some((CLEANED_UP, &idle.slot)));
            let object = self.namespace.object("service", &self.service);
            let applied = self.namespace.apply::<Service>("patch services", &object, &config, false);
            match (applied.await?, pauses.next()) {
                (Applied::Done(_), _) => break idle,
                (Applied::Stale, Some(pause)) => tokio::time::sleep(pause).await,
                (Applied::Stale, None) => return Err(TrafficError::Contended { object: self.object() }),
            }
        };
        if idle.replicas > 0 {
            self.namespace.scale(&idle.slot.deployment, 0).await?;
        }
        if let Some(test) = &self.test_service {
            self.remove(test).await?;
        }
        Ok(self.survey().await?.traffic)
    }

    /// Deletes the test Service if bp-eks created it.
    async fn remove(&self, name: &str) -> Result<(), TrafficError> {
        let read = |operation, e| self.namespace.object("service", name).error(operation, e);
        let there = self.namespace.services().get_opt(name).await.map_err(|e| read("get services", e))?;
        let Some(service) = there.filter(is_ours) else { return Ok(()) };
        let preconditions = Some(Preconditions { uid: service.metadata.uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.namespace.services().delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(e) => Err(read("delete services", e).into()),
        }
    }
}
