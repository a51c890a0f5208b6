//! Read an existing ECS service or Kubernetes workload, for its image and its containers.

use std::time::Duration;

use bp_artifact::{
    ImageRef,
    config::{Region, RoleArn, Workload, WorkloadKind},
    error::{Classified, ErrorClass},
};
use bp_ecs::{Cluster, Options};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

use super::{
    draft::{Known, Values},
    kubectl::Context,
};
use crate::{Failure, Session};

/// What was found, or why it could not be read.
type Found = Result<Containers, Unread>;

/// Why an object could not be read.
enum Unread {
    /// The input is wrong: it does not exist.
    Wrong(Failure),
    /// It may exist.
    Unknown(String),
}

/// The containers of a service or workload, with their images.
struct Containers {
    /// The object, for comments.
    origin: String,
    account: Option<String>,
    containers: Vec<(String, String)>,
}

/// Reads what environments refer to.
pub(crate) struct Lookup {
    pub(crate) session: Session,
    pub(crate) timeout: Duration,
    pub(crate) context: Option<Context>,
}

impl Lookup {
    /// Adds what an existing service and workload reveal. What cannot be read is noted.
    ///
    /// # Errors
    /// When the service or workload does not exist.
    pub(crate) async fn extend(&self, values: &mut Values) -> Result<(), Failure> {
        if let (Some(cluster), Some(service)) = (own(values, "ecs.cluster"), own(values, "ecs.service")) {
            let found = self.within(self.ecs(values, &cluster, &service)).await;
            add(values, "ecs", found)?;
        }
        if let Some(workload) = own(values, "eks.workload") {
            let found = self.within(self.eks(values, &workload)).await;
            add(values, "eks", found)?;
        }
        Ok(())
    }

    async fn within(&self, work: impl Future<Output = Found>) -> Found {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(Unread::Unknown(format!("no answer within {} s", self.timeout.as_secs())))
        })
    }

    async fn ecs(&self, values: &Values, cluster: &str, service: &str) -> Found {
        let unread = |error: bp_ecs::Error| unread(&error);
        let clients = self.clients(values).await;
        let options = Options::new(self.timeout).map_err(|error| Unread::Wrong(error.into()))?;
        let target = Cluster::new(clients.ecs(), cluster).service(service, options);
        let definition = target.definition().await.map_err(unread)?;
        let image = |name: String| Some((name.clone(), definition.image(&name).ok()?.to_owned()));
        let account = definition.arn().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
        Ok(Containers {
            origin: format!("ECS service {service}"),
            account,
            containers: definition.container_names().into_iter().filter_map(image).collect(),
        })
    }

    async fn eks(&self, values: &Values, workload: &str) -> Found {
        let workload: Workload = workload.parse().map_err(|error| unread(&error))?;
        let Some(namespace) = values.get("eks.namespace") else {
            return Err(Unread::Unknown("its namespace is not known: pass --eks-namespace".to_owned()));
        };
        let client = self.kube(values).await?;
        let (group, kind, path) = match workload.kind {
            WorkloadKind::Deployment => ("apps", "Deployment", "/spec/template/spec/containers"),
            WorkloadKind::StatefulSet => ("apps", "StatefulSet", "/spec/template/spec/containers"),
            WorkloadKind::DaemonSet => ("apps", "DaemonSet", "/spec/template/spec/containers"),
            WorkloadKind::Job => ("batch", "Job", "/spec/template/spec/containers"),
            WorkloadKind::CronJob => ("batch", "CronJob", "/spec/jobTemplate/spec/template/spec/containers"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let found = api.get_opt(&workload.name).await;
        let found = found.map_err(|error| Unread::Unknown(bp_artifact::error::chain(&error)))?;
        let Some(object) = found else {
            return Err(Unread::Wrong(Failure::bad_input(format!(
                "{workload} does not exist in the namespace {namespace}: create it first, or correct --eks-workload \
                 and --eks-namespace"
            ))));
        };
        let containers = object.data.pointer(path).and_then(serde_json::Value::as_array);
        let pair = |container: &serde_json::Value| {
            Some((container["name"].as_str()?.to_owned(), container["image"].as_str()?.to_owned()))
        };
        let containers = containers.into_iter().flatten().filter_map(pair).collect();
        Ok(Containers { origin: workload.to_string(), account: None, containers })
    }

    async fn kube(&self, values: &Values) -> Result<kube::Client, Unread> {
        let of_context = self.context.as_ref().filter(|context| {
            context.cluster.as_deref().is_none_or(|cluster| values.get("eks.cluster") == Some(cluster))
        });
        match (of_context, values.get("eks.cluster")) {
            (Some(context), _) if self.session.endpoints().kubeconfig.is_none() => {
                bp_eks::from_kubeconfig(None, Some(&context.name)).await.map_err(|error| unread(&error))
            }
            (_, Some(cluster)) => {
                self.clients(values).await.try_kube(cluster, None).await.map_err(|error| unread(&error))
            }
            (_, None) => Err(Unread::Unknown("its cluster is not known: pass --eks-cluster".to_owned())),
        }
    }

    async fn clients(&self, values: &Values) -> crate::Clients {
        let region = values.get("region").and_then(|region| region.parse::<Region>().ok());
        let role = values.get("role").and_then(|role| role.parse::<RoleArn>().ok());
        self.session.unverified(region.as_ref(), role.as_ref()).await
    }
}

fn own(values: &Values, key: &str) -> Option<String> {
    values.get(key).map(str::to_owned)
}

fn unread<E: Classified>(error: &E) -> Unread {
    match error.class() {
        ErrorClass::BadInput | ErrorClass::Refused => Unread::Wrong(Failure::new(error.class(), error)),
        _ => Unread::Unknown(bp_artifact::error::chain(error)),
    }
}

/// Adds the containers and the image of a service or workload.
fn add(values: &mut Values, section: &str, found: Found) -> Result<(), Failure> {
    let key = format!("{section}.container");
    let found = match found {
        Ok(found) => found,
        Err(Unread::Wrong(failure)) => return Err(failure.hint("nothing was written")),
        Err(Unread::Unknown(reason)) => {
            values.note(&key, format!("not read: {reason}"));
            return Ok(());
        }
    };
    if let Some(account) = &found.account {
        values.offer("account", Known::new(account, &found.origin));
    }
    let chosen = values.get(&key).map(str::to_owned);
    let image = match (found.containers.as_slice(), chosen) {
        ([], _) => None,
        ([(name, image)], None) => {
            values.offer(&key, Known::new(name, &found.origin));
            Some(image)
        }
        (containers, Some(chosen)) => {
            let image = containers.iter().find(|(name, _)| *name == chosen).map(|(_, image)| image);
            if image.is_none() {
                return Err(Failure::bad_input(format!(
                    "{} has no container {chosen:?}; it has {}; nothing was written",
                    found.origin,
                    names(containers)
                )));
            }
            image
        }
        (containers, None) => {
            values.note(&key, format!("{} has several containers: {}", found.origin, names(containers)));
            None
        }
    };
    let Some(image) = image.and_then(|image| image.parse::<ImageRef>().ok()) else { return Ok(()) };
    let origin = format!("the image of {}", found.origin);
    values.offer("registry", Known::new(image.repository().registry().as_str(), &origin));
    // The path belongs to that registry.
    if values.get("registry") == Some(image.repository().registry().as_str()) {
        values.offer("repository", Known::new(image.repository().path(), &origin));
    }
    Ok(())
}

fn names(containers: &[(String, String)]) -> String {
    let names: Vec<&str> = containers.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containers(list: &[(&str, &str)]) -> Found {
        Ok(Containers {
            origin: "ECS service web".to_owned(),
            account: Some("111111111111".to_owned()),
            containers: list.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())).collect(),
        })
    }

    const WEB: (&str, &str) = ("web", "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1");

    #[test]
    fn the_image_of_the_only_container_is_that_of_the_project() {
        let mut values = Values::default();
        add(&mut values, "ecs", containers(&[WEB])).unwrap();
        let get = |key| values.get(key);
        assert_eq!((get("ecs.container"), get("repository")), (Some("web"), Some("shop/web")));
        assert_eq!(get("registry"), Some("111111111111.dkr.ecr.eu-central-1.amazonaws.com"));
        assert_eq!(get("account"), Some("111111111111"));
    }

    #[test]
    fn does_not_choose_between_several_containers() {
        let two = || containers(&[("envoy", "public.ecr.aws/envoy:1"), WEB]);
        let mut values = Values::default();
        add(&mut values, "ecs", two()).unwrap();
        assert_eq!((values.get("ecs.container"), values.get("registry")), (None, None));
        assert!(values.notes["ecs.container"].contains("envoy, web"), "{values:?}");

        let mut chosen = Values::default();
        chosen.offer("ecs.container", Known::new("web", "--ecs-container"));
        add(&mut chosen, "ecs", two()).unwrap();
        assert_eq!(chosen.get("repository"), Some("shop/web"));
        let mut wrong = Values::default();
        wrong.offer("ecs.container", Known::new("app", "--ecs-container"));
        assert!(add(&mut wrong, "ecs", two()).unwrap_err().to_string().contains("it has envoy, web"));
    }

    #[test]
    fn a_repository_of_another_registry_than_the_given_one_is_not_taken() {
        let mut values = Values::default();
        values.offer("registry", Known::new("registry.example.com", "--registry"));
        add(&mut values, "ecs", containers(&[WEB])).unwrap();
        assert_eq!((values.get("registry"), values.get("repository")), (Some("registry.example.com"), None));
    }
}
