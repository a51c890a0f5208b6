//! The target groups of Elastic Load Balancing in which ECS registers the tasks of a service.

use aws_sdk_ecs::types::{LoadBalancer, Service};

use crate::{error::Error, target::EcsTarget};

impl EcsTarget {
    /// The ARNs of the target groups of the service, one list for each of its load balancers: a blue/green deployment
    /// moves the tasks between two target groups, of which one may be empty. Empty without load balancers.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn target_groups(&self) -> Result<Vec<Vec<String>>, Error> {
        let service = self.0.api.find_service().await?.ok_or_else(|| self.0.api.not_found())?;
        Ok(of(&service))
    }
}

/// Task sets of CodeDeploy and external controllers have load balancers of their own.
fn of(service: &Service) -> Vec<Vec<String>> {
    let of_sets: Vec<&LoadBalancer> =
        service.task_sets().iter().flat_map(|set| set.load_balancers()).collect();
    if of_sets.is_empty() {
        return service.load_balancers().iter().map(groups).filter(|groups| !groups.is_empty()).collect();
    }
    let mut all: Vec<String> = of_sets.into_iter().flat_map(groups).collect();
    all.sort();
    all.dedup();
    if all.is_empty() { Vec::new() } else { vec![all] }
}

fn groups(balancer: &LoadBalancer) -> Vec<String> {
    let advanced = balancer.advanced_configuration();
    let alternate = advanced.and_then(|advanced| advanced.alternate_target_group_arn());
    let both = [balancer.target_group_arn(), alternate];
    both.into_iter().flatten().filter(|arn| !arn.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{AdvancedConfiguration, TaskSet};

    use super::*;

    fn balancer(arn: &str, alternate: Option<&str>) -> LoadBalancer {
        let advanced = alternate
            .map(|alternate| AdvancedConfiguration::builder().alternate_target_group_arn(alternate).build());
        LoadBalancer::builder().target_group_arn(arn).set_advanced_configuration(advanced).build()
    }

    #[test]
    fn both_target_groups_of_a_blue_green_service_belong_together() {
        let service = Service::builder()
            .load_balancers(balancer("web", Some("web-2")))
            .load_balancers(balancer("admin", None))
            .load_balancers(LoadBalancer::builder().load_balancer_name("classic").build())
            .build();
        assert_eq!(of(&service), [vec!["web".to_owned(), "web-2".into()], vec!["admin".into()]]);
        assert!(of(&Service::builder().build()).is_empty());
    }

    #[test]
    fn task_sets_replace_the_load_balancers_of_the_service() {
        let set = |arn| TaskSet::builder().load_balancers(balancer(arn, None)).build();
        let service = Service::builder()
            .load_balancers(balancer("outdated", None))
            .task_sets(set("green"))
            .task_sets(set("blue"))
            .task_sets(set("green"))
            .build();
        assert_eq!(of(&service), [vec!["blue".to_owned(), "green".into()]]);
    }
}
