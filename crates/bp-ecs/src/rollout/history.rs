//! Paginated history of a service's deployments.

use std::vec::IntoIter;

use aws_sdk_ecs::types::{ServiceDeploymentBrief, ServiceDeploymentStatus};

use crate::{api::Api, error::Error};

/// The service deployments that ECS retains, newest first. Pages are read on demand.
pub(super) struct History<'a> {
    api: &'a Api,
    statuses: &'a [ServiceDeploymentStatus],
    page: IntoIter<ServiceDeploymentBrief>,
    /// The next page; `None` after the last one.
    next: Option<Page>,
}

enum Page {
    First,
    After(String),
}

impl<'a> History<'a> {
    /// The history of deployments with one of `statuses` (any when empty).
    pub(super) fn new(api: &'a Api, statuses: &'a [ServiceDeploymentStatus]) -> Self {
        History { api, statuses, page: Vec::new().into_iter(), next: Some(Page::First) }
    }

    /// The next older deployment.
    pub(super) async fn next(&mut self) -> Result<Option<ServiceDeploymentBrief>, Error> {
        loop {
            if let Some(brief) = self.page.next() {
                return Ok(Some(brief));
            }
            let token = match self.next.take() {
                None => return Ok(None),
                Some(Page::First) => None,
                Some(Page::After(token)) => Some(token),
            };
            let (page, token) = self.api.deployments_from(self.statuses, None, token).await?;
            self.page = page.into_iter();
            self.next = token.map(Page::After);
        }
    }
}
