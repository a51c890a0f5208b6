//! ECS API calls about tasks.

use aws_sdk_ecs::{
    operation::list_tasks::builders::ListTasksFluentBuilder,
    types::{DesiredStatus, Task},
};

use super::Api;
use crate::error::Error;

/// The maximum number of tasks per DescribeTasks call.
const TASKS: usize = 100;

impl Api {
    /// `ecs:ListTasks`: a page of the service's tasks with this desired status, and the token of the next one.
    pub(crate) async fn list_tasks(
        &self,
        desired: DesiredStatus,
        token: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Error> {
        self.page_of(self.of_service(desired).set_next_token(token)).await
    }

    /// `ecs:DescribeTasks`, of at most 100 tasks.
    pub(crate) async fn describe_tasks(&self, arns: &[String]) -> Result<Vec<Task>, Error> {
        let call = self.client().describe_tasks().cluster(&self.cluster.name).set_tasks(Some(arns.to_vec()));
        let response = call.send().await.map_err(|e| self.error("ecs:DescribeTasks", e))?;
        Ok(response.tasks.unwrap_or_default())
    }

    /// `ecs:ListTasks` and `ecs:DescribeTasks`: all tasks of the service with this desired status.
    pub(crate) async fn tasks(&self, desired: DesiredStatus) -> Result<Vec<Task>, Error> {
        self.tasks_of(self.of_service(desired)).await
    }

    /// The tasks of the first page, in two calls, and whether it is the last one.
    pub(crate) async fn first_tasks(&self, desired: DesiredStatus) -> Result<(Vec<Task>, bool), Error> {
        let (arns, token) = self.list_tasks(desired, None).await?;
        let tasks = if arns.is_empty() { Vec::new() } else { self.describe_tasks(&arns).await? };
        Ok((tasks, token.is_none()))
    }

    /// `ecs:ListTasks` and `ecs:DescribeTasks`: all tasks that were started with this `startedBy`.
    pub(crate) async fn tasks_started_by(
        &self,
        key: &str,
        desired: DesiredStatus,
    ) -> Result<Vec<Task>, Error> {
        self.tasks_of(self.client().list_tasks().started_by(key).desired_status(desired)).await
    }

    /// `ecs:DescribeTasks` for one task. `None` when ECS does not know it.
    pub(crate) async fn task(&self, arn: &str) -> Result<Option<Task>, Error> {
        Ok(self.describe_tasks(&[arn.to_owned()]).await?.into_iter().next())
    }

    /// `ecs:StopTask`. Stopping a task twice changes nothing.
    pub(crate) async fn stop_task(&self, arn: &str, reason: &str) -> Result<(), Error> {
        let call = self.client().stop_task().cluster(&self.cluster.name).task(arn).reason(reason);
        call.send().await.map(|_| ()).map_err(|e| self.error("ecs:StopTask", e))
    }

    fn of_service(&self, desired: DesiredStatus) -> ListTasksFluentBuilder {
        self.client().list_tasks().service_name(&self.service).desired_status(desired)
    }

    /// Every page of a list, described.
    async fn tasks_of(&self, list: ListTasksFluentBuilder) -> Result<Vec<Task>, Error> {
        let (mut arns, mut token) = self.page_of(list.clone()).await?;
        while let Some(next) = token {
            let (more, after) = self.page_of(list.clone().next_token(next)).await?;
            arns.extend(more);
            token = after;
        }
        let mut tasks = Vec::with_capacity(arns.len());
        for some in arns.chunks(TASKS) {
            tasks.extend(self.describe_tasks(some).await?);
        }
        Ok(tasks)
    }

    /// A page of a list, and the token of the next one.
    async fn page_of(&self, list: ListTasksFluentBuilder) -> Result<(Vec<String>, Option<String>), Error> {
        let response =
            list.cluster(&self.cluster.name).send().await.map_err(|e| self.error("ecs:ListTasks", e))?;
        Ok((response.task_arns.unwrap_or_default(), response.next_token))
    }
}
