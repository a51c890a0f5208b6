//! ECS API calls about single tasks.

use aws_sdk_ecs::{
    operation::list_tasks::builders::ListTasksFluentBuilder,
    types::{DesiredStatus, Task},
};

use super::{Api, TASKS};
use crate::error::Error;

impl Api {
    /// `ecs:ListTasks` and `ecs:DescribeTasks`: all tasks of the service with this desired status.
    pub(crate) async fn tasks(&self, desired: DesiredStatus) -> Result<Vec<Task>, Error> {
        let list = || self.client().list_tasks().service_name(&self.service).desired_status(desired.clone());
        self.tasks_of(list).await
    }

    /// `ecs:ListTasks` and `ecs:DescribeTasks`: all tasks that were started with this `startedBy`.
    pub(crate) async fn tasks_started_by(
        &self,
        key: &str,
        desired: DesiredStatus,
    ) -> Result<Vec<Task>, Error> {
        self.tasks_of(|| self.client().list_tasks().started_by(key).desired_status(desired.clone())).await
    }

    async fn tasks_of(&self, list: impl Fn() -> ListTasksFluentBuilder) -> Result<Vec<Task>, Error> {
        let mut arns = Vec::new();
        let mut token = None;
        loop {
            let call = list().cluster(&self.cluster.name).set_next_token(token);
            let response = call.send().await.map_err(|e| self.error("ecs:ListTasks", e))?;
            arns.extend(response.task_arns.unwrap_or_default());
            token = response.next_token;
            if token.is_none() {
                break;
            }
        }
        let mut tasks = Vec::with_capacity(arns.len());
        for some in arns.chunks(TASKS) {
            tasks.extend(self.describe_tasks(some.to_vec()).await?);
        }
        Ok(tasks)
    }

    async fn describe_tasks(&self, arns: Vec<String>) -> Result<Vec<Task>, Error> {
        let call = self.client().describe_tasks().cluster(&self.cluster.name).set_tasks(Some(arns));
        let response = call.send().await.map_err(|e| self.error("ecs:DescribeTasks", e))?;
        Ok(response.tasks.unwrap_or_default())
    }

    /// `ecs:DescribeTasks` for one task. `None` when ECS does not know it.
    pub(crate) async fn task(&self, arn: &str) -> Result<Option<Task>, Error> {
        Ok(self.describe_tasks(vec![arn.to_owned()]).await?.into_iter().next())
    }

    /// `ecs:StopTask`. Stopping a task twice changes nothing.
    pub(crate) async fn stop_task(&self, arn: &str, reason: &str) -> Result<(), Error> {
        let call = self.client().stop_task().cluster(&self.cluster.name).task(arn).reason(reason);
        call.send().await.map(|_| ()).map_err(|e| self.error("ecs:StopTask", e))
    }
}
