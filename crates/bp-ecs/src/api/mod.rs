//! ECS API calls of a deployment, one function each, with converted errors.

mod shared;
mod task;

pub(crate) use shared::Shared;

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_ecs::{
    config::retry::RetryConfig,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId as _,
    primitives::DateTime,
    types::{
        CreatedAt, DeploymentLifecycleHookAction, Service, ServiceDeployment, ServiceDeploymentBrief,
        ServiceDeploymentStatus, ServiceField, ServiceRevision, StopServiceDeploymentStopType, Tag,
        TaskDefinitionField,
    },
};
use aws_smithy_types::body::SdkBody;
use backon::{ExponentialBuilder, Retryable};
use bp_artifact::{error::Classified, sync::Batch, text::SingleLine};
use serde_json::Value;

use crate::{
    definition::{Capture, TaskDefinition},
    error::Error,
    names::name_of,
};

/// The API of one service.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) cluster: Arc<Shared>,
    pub(crate) service: String,
    /// How long to retry a registration while the API is overloaded.
    retry_for: Duration,
}

impl Api {
    pub(crate) fn new(cluster: Arc<Shared>, service: String, retry_for: Duration) -> Self {
        Api { cluster, service, retry_for }
    }

    pub(crate) fn client(&self) -> &aws_sdk_ecs::Client {
        &self.cluster.client
    }

    /// Converts an SDK error; adds the names of cluster and service where they are missing.
    pub(crate) fn error<E>(
        &self,
        operation: &'static str,
        error: SdkError<E, aws_sdk_ecs::config::http::HttpResponse>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match error.code() {
            Some("ClusterNotFoundException") => Error::ClusterNotFound { cluster: self.cluster.name.clone() },
            Some("ServiceNotFoundException") => self.not_found(),
            Some("ServiceNotActiveException") => {
                Error::ServiceNotActive { service: self.service.clone(), status: "INACTIVE".to_owned() }
            }
            _ => {
                tracing::debug!(operation, request_id = error.request_id(), "call failed");
                Error::of_call(operation, error)
            }
        }
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::ServiceNotFound { cluster: self.cluster.name.clone(), service: self.service.clone() }
    }

    /// `ecs:DescribeServices`, joined with concurrent calls for other services. `None` when the service does not exist.
    pub(crate) async fn find_service(&self) -> Result<Option<Service>, Error> {
        let describe = |names: Vec<String>| async move {
            let call =
                self.client().describe_services().cluster(&self.cluster.name).set_services(Some(names));
            let response = call.send().await.map_err(|e| self.error("ecs:DescribeServices", e))?;
            Ok(response.services.unwrap_or_default())
        };
        let name = name_of(&self.service).to_owned();
        if self.cluster.is_shared() {
            let named = |service: &Service| service.service_name.clone().unwrap_or_default();
            joined(&self.cluster.services, &name, describe, named).await
        } else {
            Ok(describe(vec![name]).await?.into_iter().next())
        }
    }

    /// `ecs:DescribeServices`, with tags: those of the service.
    pub(crate) async fn service_tags(&self) -> Result<Vec<Tag>, Error> {
        let call = self.client().describe_services().cluster(&self.cluster.name).services(&self.service);
        let response = call.include(ServiceField::Tags).send().await;
        let response = response.map_err(|e| self.error("ecs:DescribeServices", e))?;
        Ok(response.services.unwrap_or_default().into_iter().next().and_then(|s| s.tags).unwrap_or_default())
    }

    /// `ecs:DescribeTaskDefinition`, with tags. A family alone returns its latest active revision.
    pub(crate) async fn definition(&self, reference: &str) -> Result<TaskDefinition, Error> {
        const OPERATION: &str = "ecs:DescribeTaskDefinition";
        let capture = Capture::default();
        let call = self
            .client()
            .describe_task_definition()
            .task_definition(reference)
            .include(TaskDefinitionField::Tags);
        call.customize().interceptor(capture.clone()).send().await.map_err(|e| {
            let error = self.error(OPERATION, e);
            if error.code() == Some("ClientException") {
                Error::DefinitionNotFound { definition: reference.to_owned() }
            } else {
                error
            }
        })?;
        self.read(OPERATION, reference, capture)
    }

    fn read(&self, operation: &'static str, source: &str, capture: Capture) -> Result<TaskDefinition, Error> {
        let mut response = capture.json().unwrap_or_default();
        let tags = response["tags"].take();
        let Value::Object(fields) = response["taskDefinition"].take() else {
            return Err(Error::UnexpectedResponse { operation, reason: "no taskDefinition".to_owned() });
        };
        TaskDefinition::read(source, fields, tags)
    }

    /// `ecs:RegisterTaskDefinition`, unless the family's latest active revision is identical.
    ///
    /// The call is not idempotent: if the response is lost, it may have registered a revision. So SDK retries are
    /// disabled, and each retry here compares with the latest revision first.
    pub(crate) async fn register(&self, definition: &TaskDefinition) -> Result<TaskDefinition, Error> {
        let _guard = self.cluster.registering.lock().await;
        let find_or_register = || async {
            match self.definition(definition.family()).await {
                Ok(latest) if latest.is_same(definition) => Ok(latest),
                Ok(_) | Err(Error::DefinitionNotFound { .. }) => self.register_once(definition).await,
                Err(error) => Err(error),
            }
        };
        let pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(15))
            .without_max_times()
            .with_total_delay(Some(self.retry_for));
        find_or_register
            .retry(pauses)
            .when(Classified::is_retryable)
            .notify(|error, pause| tracing::warn!(error = %SingleLine(error), ?pause, "failed to register, retrying"))
            .await
    }

    /// Sends the definition's raw JSON, so that members which the SDK's types lack are not lost.
    async fn register_once(&self, definition: &TaskDefinition) -> Result<TaskDefinition, Error> {
        const OPERATION: &str = "ecs:RegisterTaskDefinition";
        definition.check_known()?;
        let body = Value::Object(definition.as_json().clone()).to_string();
        let capture = Capture::default();
        let call = self.client().register_task_definition().family(definition.family());
        let call = call.customize().config_override(once()).interceptor(capture.clone()).mutate_request(
            move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(body.as_str());
            },
        );
        call.send().await.map_err(|e| self.error(OPERATION, e))?;
        self.read(OPERATION, definition.family(), capture)
    }

    /// `ecs:UpdateService`, with the definition only, and without retries: see [`apply`](crate::rollout).
    pub(crate) async fn update(&self, definition: &str, force: bool) -> Result<Service, Error> {
        const OPERATION: &str = "ecs:UpdateService";
        let call = self.client().update_service().cluster(&self.cluster.name).service(&self.service);
        let call = call.task_definition(definition).set_force_new_deployment(force.then_some(true));
        let call = call.customize().config_override(once());
        let response = call.send().await.map_err(|e| self.error(OPERATION, e))?;
        response.service.ok_or_else(|| Error::UnexpectedResponse {
            operation: OPERATION,
            reason: "no service".to_owned(),
        })
    }

    /// The first page of [`deployments_from`](Self::deployments_from).
    pub(crate) async fn deployments(
        &self,
        statuses: &[ServiceDeploymentStatus],
        after: Option<DateTime>,
    ) -> Result<Vec<ServiceDeploymentBrief>, Error> {
        Ok(self.deployments_from(statuses, after, None).await?.0)
    }

    /// `ecs:ListServiceDeployments`, newest first, with one of `statuses` (any when empty), created after `after`.
    /// Returns a page and the token of the next one.
    pub(crate) async fn deployments_from(
        &self,
        statuses: &[ServiceDeploymentStatus],
        after: Option<DateTime>,
        token: Option<String>,
    ) -> Result<(Vec<ServiceDeploymentBrief>, Option<String>), Error> {
        let call =
            self.client().list_service_deployments().cluster(&self.cluster.name).service(&self.service);
        let call = call
            .set_status((!statuses.is_empty()).then(|| statuses.to_vec()))
            .set_created_at(after.map(|after| CreatedAt::builder().after(after).build()))
            .set_next_token(token);
        let response = call.send().await.map_err(|e| self.error("ecs:ListServiceDeployments", e))?;
        Ok((response.service_deployments.unwrap_or_default(), response.next_token))
    }

    /// `ecs:DescribeServiceDeployments`, joined with concurrent calls for other deployments.
    pub(crate) async fn deployment(&self, arn: &str) -> Result<Option<ServiceDeployment>, Error> {
        let describe = |arns: Vec<String>| self.described(arns);
        if self.cluster.is_shared() {
            let named = |d: &ServiceDeployment| d.service_deployment_arn.clone().unwrap_or_default();
            joined(&self.cluster.deployments, arn, describe, named).await
        } else {
            Ok(describe(vec![arn.to_owned()]).await?.into_iter().next())
        }
    }

    /// `ecs:DescribeServiceDeployments` of several deployments.
    pub(crate) async fn described(&self, arns: Vec<String>) -> Result<Vec<ServiceDeployment>, Error> {
        let call = self.client().describe_service_deployments().set_service_deployment_arns(Some(arns));
        let response = call.send().await.map_err(|e| self.error("ecs:DescribeServiceDeployments", e))?;
        Ok(response.service_deployments.unwrap_or_default())
    }

    /// `ecs:DescribeServiceRevisions`.
    pub(crate) async fn revision(&self, arn: &str) -> Result<Option<ServiceRevision>, Error> {
        let call = self.client().describe_service_revisions().service_revision_arns(arn);
        let response = call.send().await.map_err(|e| self.error("ecs:DescribeServiceRevisions", e))?;
        Ok(response.service_revisions.unwrap_or_default().into_iter().next())
    }

    /// `ecs:StopServiceDeployment` with rollback. Rejected when it is too late, or not supported for this service.
    pub(crate) async fn stop_and_roll_back(&self, arn: &str) -> Result<(), Error> {
        let call = self.client().stop_service_deployment().service_deployment_arn(arn);
        let response = call.stop_type(StopServiceDeploymentStopType::Rollback).send().await;
        response.map(|_| ()).map_err(|e| self.error("ecs:StopServiceDeployment", e))
    }

    /// `ecs:ContinueServiceDeployment`.
    pub(crate) async fn continue_deployment(
        &self,
        arn: &str,
        hook: &str,
        action: DeploymentLifecycleHookAction,
    ) -> Result<(), Error> {
        let call = self.client().continue_service_deployment().service_deployment_arn(arn).hook_id(hook);
        let response = call.action(action).send().await;
        response.map(|_| ()).map_err(|e| self.error("ecs:ContinueServiceDeployment", e))
    }
}

/// The item `key`, requested together with those of concurrent deployments. `None` when the response lacks it.
///
/// A joint call that failed, possibly because of another item, is repeated for this item alone.
async fn joined<T, F>(
    batch: &Batch<T, Error>,
    key: &str,
    call: impl Fn(Vec<String>) -> F,
    name: impl Fn(&T) -> String,
) -> Result<Option<T>, Error>
where
    T: Clone,
    F: Future<Output = Result<Vec<T>, Error>>,
{
    let by_name = async |keys: Vec<String>| -> Result<HashMap<String, T>, Error> {
        Ok(call(keys).await?.into_iter().map(|item| (name(&item), item)).collect())
    };
    match batch.get(key, by_name).await {
        Some(Ok(item)) => Ok(item),
        // A call for each would add to an overload.
        Some(Err(error)) if error.is_retryable() => Err(error.copy_for_waiter()),
        Some(Err(_)) | None => Ok(call(vec![key.to_owned()]).await?.into_iter().next()),
    }
}

/// Disables the SDK's retries: if a response is lost, the call may have been applied.
fn once() -> aws_sdk_ecs::config::Builder {
    aws_sdk_ecs::config::Builder::new().retry_config(RetryConfig::disabled())
}
