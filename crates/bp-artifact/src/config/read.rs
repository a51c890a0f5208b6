//! From the text of `bp.toml` to a checked [`Config`].

use serde::Deserialize;
use toml::Spanned;

use super::{
    AccountId, Config, ConfigError, EcsConfig, EksConfig, Environment, EnvironmentConfig, Project, Region,
    RoleArn, Workload, name::is_dns_name,
};
use crate::{
    document::Location,
    reference::{Registry, Repository},
};

/// The versions of the format that are read.
const VERSION: u32 = 1;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    project: ProjectTable,
    #[serde(default)]
    environment: Vec<EnvironmentTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectTable {
    name: Spanned<String>,
    repository: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentTable {
    name: Spanned<Environment>,
    account: Option<AccountId>,
    region: Region,
    role: Option<Spanned<RoleArn>>,
    registry: Spanned<Registry>,
    repository: Option<Spanned<String>>,
    ecs: Option<EcsTable>,
    eks: Option<EksTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EcsTable {
    cluster: Spanned<String>,
    service: Spanned<String>,
    container: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EksTable {
    cluster: Spanned<String>,
    namespace: Spanned<String>,
    workload: Workload,
    container: Option<Spanned<String>>,
}

/// The text, for turning byte offsets into places.
struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

impl Text<'_> {
    fn invalid(&self, offset: usize, reason: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { at: Location::of(self.file, self.text, offset), reason: reason.into() }
    }

    /// A value that must say something.
    fn filled(&self, key: &str, value: Spanned<String>) -> Result<String, ConfigError> {
        match value.get_ref().trim().is_empty() {
            true => Err(self.invalid(value.span().start, format!("{key} is empty"))),
            false => Ok(value.into_inner()),
        }
    }
}

pub(super) fn config(text: &str, file: &str) -> Result<Config, ConfigError> {
    let at = Text { file, text };
    let File { version, project, environment } = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        at.invalid(offset, error.message())
    })?;
    if *version.get_ref() != VERSION {
        let reason = format!("version {} is not supported; this one reads {VERSION}", version.get_ref());
        return Err(at.invalid(version.span().start, reason));
    }
    if environment.is_empty() {
        return Err(at.invalid(text.len(), "it has no [[environment]]"));
    }
    let project = Project {
        name: at.filled("project.name", project.name)?,
        repository: at.filled("project.repository", project.repository)?,
    };
    let mut environments: Vec<EnvironmentConfig> = Vec::with_capacity(environment.len());
    for table in environment {
        if environments.iter().any(|earlier| earlier.name == *table.name.get_ref()) {
            let reason = format!("the environment {} is there twice", table.name.get_ref());
            return Err(at.invalid(table.name.span().start, reason));
        }
        environments.push(environment_config(&at, &project, table)?);
    }
    Ok(Config { file: file.to_owned(), project, environments })
}

fn environment_config(
    at: &Text<'_>,
    project: &Project,
    table: EnvironmentTable,
) -> Result<EnvironmentConfig, ConfigError> {
    let EnvironmentTable { name, account, region, role, registry, repository, ecs, eks } = table;
    if let (Some(account), Some(role)) = (&account, &role)
        && role.get_ref().account() != account.as_str()
    {
        let reason = format!("the role belongs to account {}, not to {account}", role.get_ref().account());
        return Err(at.invalid(role.span().start, reason));
    }
    if let Some((_, found)) = registry.get_ref().ecr()
        && found != region.as_str()
    {
        let reason = format!(
            "the registry is in {found} and the environment in {region}: name the region's own registry"
        );
        return Err(at.invalid(registry.span().start, reason));
    }
    let (path, offset) = match &repository {
        Some(path) => (path.get_ref().as_str(), path.span().start),
        None => (project.repository.as_str(), registry.span().start),
    };
    let repository = Repository::new(registry.into_inner(), path)
        .map_err(|error| at.invalid(offset, error.to_string()))?;
    Ok(EnvironmentConfig {
        name: name.into_inner(),
        account,
        region,
        role: role.map(Spanned::into_inner),
        repository,
        ecs: ecs.map(|table| ecs_config(at, table)).transpose()?,
        eks: eks.map(|table| eks_config(at, table)).transpose()?,
        file: at.file.to_owned(),
    })
}

fn ecs_config(at: &Text<'_>, table: EcsTable) -> Result<EcsConfig, ConfigError> {
    Ok(EcsConfig {
        cluster: at.filled("ecs.cluster", table.cluster)?,
        service: at.filled("ecs.service", table.service)?,
        container: table.container.map(|name| at.filled("ecs.container", name)).transpose()?,
    })
}

fn eks_config(at: &Text<'_>, table: EksTable) -> Result<EksConfig, ConfigError> {
    if !is_dns_name(table.namespace.get_ref()) {
        let reason = format!(
            "{:?} is not a namespace: expected lower-case letters, digits and dashes",
            table.namespace.get_ref()
        );
        return Err(at.invalid(table.namespace.span().start, reason));
    }
    Ok(EksConfig {
        cluster: at.filled("eks.cluster", table.cluster)?,
        namespace: table.namespace.into_inner(),
        workload: table.workload,
        container: table.container.map(|name| at.filled("eks.container", name)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"version = 1

[project]
name = "shop"
repository = "shop/web"

[[environment]]
name = "dev"
account = "111111111111"
region = "eu-central-1"
role = "arn:aws:iam::111111111111:role/deploy"
registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com"
[environment.ecs]
cluster = "shop"
service = "web"
container = "web"

[[environment]]
name = "prod"
region = "eu-west-1"
registry = "222222222222.dkr.ecr.eu-west-1.amazonaws.com"
repository = "live/web"
[environment.eks]
cluster = "shop"
namespace = "web"
workload = "deployment/web"
"#;

    #[test]
    fn environments_keep_their_order_and_their_own_repository() {
        let config = config(GOOD, "bp.toml").unwrap();
        let names: Vec<&str> = config.environments().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["dev", "prod"]);
        let (dev, prod) = (&config.environments()[0], &config.environments()[1]);
        assert_eq!(prod.repository.to_string(), "222222222222.dkr.ecr.eu-west-1.amazonaws.com/live/web");
        assert_eq!(config.next(&dev.name), Some(prod));
        assert_eq!(config.next(&prod.name), None);
        assert_eq!(config.previous(&prod.name), Some(dev));
        assert_eq!(config.previous(&dev.name), None);
        assert_eq!(dev.ecs().unwrap().container.as_deref(), Some("web"));
        assert_eq!(prod.eks().unwrap().container, None);
        assert_eq!(
            dev.eks().unwrap_err().to_string(),
            "bp.toml: the environment dev has no [environment.eks]"
        );
        assert_eq!(
            config.environment("stagin").unwrap_err().to_string(),
            "bp.toml has no environment \"stagin\"; it has dev, prod"
        );
    }

    #[test]
    fn every_mistake_is_shown_where_it_is() {
        for (from, to, message) in [
            ("version = 1", "version = 2", "bp.toml:1:11: version 2 is not supported; this one reads 1"),
            ("version = 1", "", "missing field `version`"),
            ("name = \"prod\"", "name = \"dev\"", "bp.toml:19:8: the environment dev is there twice"),
            (
                "name = \"prod\"",
                "name = \"Prod\"",
                "bp.toml:19:8: \"Prod\" is not the name of an environment",
            ),
            (
                "region = \"eu-west-1\"",
                "regoin = \"x\"",
                "bp.toml:20:1: unknown field `regoin`, expected one of",
            ),
            ("account = \"111111111111\"", "account = 111111111111", "bp.toml:9:11: invalid type: integer"),
            (
                "account = \"111111111111\"",
                "account = \"333333333333\"",
                "bp.toml:11:8: the role belongs to account 111111111111, not to 333333333333",
            ),
            (
                "role = \"arn:aws:iam::111111111111:role/deploy\"",
                "role = \"deploy\"",
                "bp.toml:11:8: \"deploy\" is not the ARN of a role",
            ),
            ("amazonaws.com\"\nrepository", "amazonaws.com/x\"\nrepository", "is not a registry host"),
            (
                "222222222222.dkr.ecr.eu-west-1",
                "222222222222.dkr.ecr.us-east-1",
                "bp.toml:21:12: the registry is in us-east-1 and the environment in eu-west-1",
            ),
            (
                "\"live/web\"",
                "\"Live/web\"",
                "bp.toml:22:14: \"Live/web\" is not a repository path: a repository path is in lower case",
            ),
            ("service = \"web\"", "service = \" \"", "bp.toml:15:11: ecs.service is empty"),
            ("\"deployment/web\"", "\"job/web\"", "bp.toml:26:12: \"job/web\" is not a workload"),
            ("namespace = \"web\"", "namespace = \"Web\"", "bp.toml:25:13: \"Web\" is not a namespace"),
            ("[environment.eks]", "[environment.eks", "bp.toml:23:"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = config(&GOOD.replacen(from, to, 1), "bp.toml").unwrap_err().to_string();
            assert!(error.contains(message), "{from} -> {to}: {error}");
            assert!(error.starts_with("bp.toml:") && !error.contains('\n'), "{error}");
        }
        let none = config(GOOD.split("[[environment]]").next().unwrap(), "bp.toml").unwrap_err();
        assert!(none.to_string().ends_with("it has no [[environment]]"), "{none}");
        assert!(config("", "bp.toml").is_err());
    }
}
