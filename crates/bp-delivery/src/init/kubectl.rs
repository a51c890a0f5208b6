//! The cluster, region and namespace of a kubeconfig's context.

use kube::config::Kubeconfig;

use super::draft::{Known, Values};

/// A context of kubectl.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) cluster: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) account: Option<String>,
}

impl Context {
    /// The context `name`, or else the current one, of the kubeconfig that kubectl would read.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn read(name: Option<&str>) -> Result<Self, String> {
        let config = Kubeconfig::read().map_err(|error| bp_artifact::error::chain(&error))?;
        Self::of(&config, name)
    }

    pub(super) fn of(config: &Kubeconfig, name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name.or(config.current_context.as_deref()).filter(|name| !name.is_empty()) else {
            return Err("the kubeconfig has no current context: pass --context".to_owned());
        };
        let found = config.contexts.iter().find(|context| context.name == name);
        let Some(context) = found.and_then(|found| found.context.as_ref()) else {
            return Err(format!("the kubeconfig has no context {name:?}"));
        };
        let mut own = Context { name: name.to_owned(), ..Context::default() };
        own.namespace = Some(context.namespace.clone().unwrap_or_else(|| "default".to_owned()));
        // The command that fetches tokens states the cluster exactly; names of contexts are conventions.
        let user = config.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
        let exec = user.and_then(|user| user.auth_info.as_ref()?.exec.as_ref());
        let arguments = exec.and_then(|exec| exec.args.as_deref()).unwrap_or_default();
        let argument = |names: &[&str]| {
            let at = arguments.iter().position(|word| names.contains(&word.as_str()))?;
            arguments.get(at + 1).cloned()
        };
        own.cluster = argument(&["--cluster-name", "--cluster-id", "-i"]);
        own.region = argument(&["--region"]);
        if let [_, _, "eks", region, account, resource] =
            context.cluster.splitn(6, ':').collect::<Vec<_>>().as_slice()
            && let Some(cluster) = resource.strip_prefix("cluster/")
        {
            own.account = Some((*account).to_owned());
            own.region.get_or_insert_with(|| (*region).to_owned());
            own.cluster.get_or_insert_with(|| cluster.to_owned());
        } else if let [cluster, region, "eksctl", "io"] =
            context.cluster.split('.').collect::<Vec<_>>().as_slice()
        {
            own.region.get_or_insert_with(|| (*region).to_owned());
            own.cluster.get_or_insert_with(|| (*cluster).to_owned());
        }
        Ok(own)
    }

    /// Offers the values of the context to an environment.
    pub(crate) fn offer(&self, values: &mut Values) {
        let origin = format!("kubectl's context {}", self.name);
        for (key, value) in [
            ("eks.cluster", &self.cluster),
            ("eks.namespace", &self.namespace),
            ("region", &self.region),
            ("account", &self.account),
        ] {
            if let Some(value) = value {
                values.offer(key, Known::new(value, &origin));
            }
        }
        if self.cluster.is_none() {
            values.note("eks.cluster", format!("kubectl's context {} is not of an EKS cluster", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contexts as `aws eks update-kubeconfig`, eksctl and others write them.
    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: arn:aws:eks:eu-central-1:111111111111:cluster/prod
clusters:
- { name: "arn:aws:eks:eu-central-1:111111111111:cluster/prod", cluster: { server: "https://a" } }
- { name: stage.eu-west-1.eksctl.io, cluster: { server: "https://b" } }
- { name: kind-local, cluster: { server: "https://c" } }
contexts:
- { name: "arn:aws:eks:eu-central-1:111111111111:cluster/prod",
    context: { cluster: "arn:aws:eks:eu-central-1:111111111111:cluster/prod", user: prod } }
- { name: me@stage.eu-west-1.eksctl.io, context: { cluster: stage.eu-west-1.eksctl.io, user: stage, namespace: shop } }
- { name: renamed, context: { cluster: kind-local, user: token } }
- { name: local, context: { cluster: kind-local, user: local, namespace: web } }
users:
- name: prod
  user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: aws,
          args: [--region, eu-central-1, eks, get-token, --cluster-name, prod, --output, json] } }
- name: stage
  user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: aws-iam-authenticator, args: [token, -i, stage] } }
- name: token
  user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: aws,
          args: [eks, get-token, --cluster-name, edge, --region, eu-north-1] } }
- { name: local, user: { token: secret } }
"#;

    #[test]
    fn reads_the_contexts_of_the_usual_tools() {
        let config = Kubeconfig::from_yaml(KUBECONFIG).unwrap();
        let read = |name: Option<&str>| {
            let found = Context::of(&config, name).unwrap();
            [found.cluster, found.namespace, found.region, found.account].map(Option::unwrap_or_default)
        };
        assert_eq!(read(None), ["prod", "default", "eu-central-1", "111111111111"]);
        assert_eq!(read(Some("me@stage.eu-west-1.eksctl.io")), ["stage", "shop", "eu-west-1", ""]);
        assert_eq!(read(Some("renamed")), ["edge", "default", "eu-north-1", ""]);
        assert_eq!(read(Some("local")), ["", "web", "", ""]);
        assert!(Context::of(&config, Some("other")).unwrap_err().contains("no context \"other\""));
        assert!(Context::of(&Kubeconfig::default(), None).is_err());
    }
}
