//! Write a first `bp.toml`.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bp_artifact::{
    Artifact, ExitCode, Registry,
    config::{AccountId, Environment, Region, RoleArn, Workload},
    document,
    error::ErrorClass,
    time::parse_duration,
};
use clap::{Args, builder::NonEmptyStringValueParser};
use serde_json::json;

use crate::{
    Failure, Session, Ui,
    init::{Context, Draft, Known, Lookup, Unknown, Values, is_setting, project, text},
    program::Verb,
};

/// Write a commented bp.toml from flags, an existing ECS service or Kubernetes workload, kubectl's context and variables of
/// the CI system; lists what it could not know
#[derive(Debug, Args)]
pub struct Init {
    /// Configuration file with the project's environments
    #[arg(long, value_name = "FILE", default_value = "bp.toml", env = "BP_CONFIG")]
    config: PathBuf,
    /// Replace the file if it exists with another content
    #[arg(long)]
    overwrite: bool,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long, conflicts_with = "overwrite")]
    plan: bool,
    /// Use flags, variables and files only: read no service and no workload
    #[arg(long)]
    offline: bool,
    /// Name of the project; defaults to that of the source repository in variables of the CI system, or of the directory
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    project: Option<String>,
    /// Path of the image below the registry, as in shop/web; defaults to that of artifact.json, or of the image that runs
    #[arg(long, value_name = "PATH", value_parser = NonEmptyStringValueParser::new())]
    repository: Option<String>,
    /// Environment to write, in promotion order; repeatable
    #[arg(id = "env", long = "env", value_name = "NAME", required = true, value_delimiter = ',')]
    environments: Vec<Environment>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Setting of all environments, or with the name of one before it of that one, such as prod.ecs.cluster=blue; wins
    /// over other flags; repeatable
    #[arg(id = "setting", long = "setting", value_name = "[ENV.]KEY=VALUE")]
    settings: Vec<String>,
    /// Context of the kubeconfig to read; defaults to the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// How long to wait for each service or workload that is read: 90s, 15m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "20s")]
    timeout: Duration,
}

/// Account, region, role and registry of all environments.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// AWS account of all environments
    #[arg(long)]
    account: Option<AccountId>,
    /// AWS region of all environments; defaults to AWS_REGION or AWS_DEFAULT_REGION
    #[arg(long)]
    region: Option<Region>,
    /// Role to assume, by its ARN
    #[arg(long, value_name = "ARN")]
    role: Option<RoleArn>,
    /// Host of the registry; defaults to Amazon ECR in account and region
    #[arg(long, value_name = "HOST")]
    registry: Option<Registry>,
}

/// The targets of all environments.
#[derive(Debug, Args)]
struct TargetArgs {
    /// ECS cluster
    #[arg(long, value_name = "NAME")]
    ecs_cluster: Option<String>,
    /// ECS service
    #[arg(long, value_name = "NAME")]
    ecs_service: Option<String>,
    /// Container of the ECS service that runs the image, if there are several
    #[arg(long, value_name = "NAME")]
    ecs_container: Option<String>,
    /// EKS cluster; defaults to that of kubectl's context, if there is another EKS flag
    #[arg(long, value_name = "NAME")]
    eks_cluster: Option<String>,
    /// Namespace of the workload; defaults to that of kubectl's context
    #[arg(long, value_name = "NAME")]
    eks_namespace: Option<String>,
    /// Kubernetes workload, as in deployment/web
    #[arg(long, value_name = "KIND/NAME")]
    eks_workload: Option<Workload>,
    /// Container of the workload that runs the image, if there are several
    #[arg(long, value_name = "NAME")]
    eks_container: Option<String>,
}

impl Verb for Init {
    const NAME: &'static str = "init";
    const HELP: crate::help::Help = crate::help::verbs::INIT;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let mut draft = self.draft().await?;
        draft.derive();
        let missing = draft.missing();
        if !missing.is_empty() {
            return Err(incomplete(&missing, &draft.unknown()));
        }
        let file = self.config.display().to_string();
        let (text, unknown) = (text(&draft, &file)?, draft.unknown());
        for one in &unknown {
            ui.say(format!("not known: {one}"));
        }
        if self.plan {
            ui.results(
                text.lines(),
                &json!({ "file": file, "text": text, "written": false, "unknown": unknown }),
            );
            return Ok(ExitCode::Done);
        }
        let written = write(&self.config, &text, self.overwrite)?;
        let names: Vec<&str> = draft.environments.iter().map(|(name, _)| name.as_str()).collect();
        let what = if written { "written" } else { "unchanged" };
        let first = names.first().copied().unwrap_or_default();
        ui.result(
            format!(
                "{file}: {what}, environments {}\nnext: bp config show --env {first}; bp doctor --env {first}",
                names.join(" -> ")
            ),
            &json!({ "file": file, "text": text, "written": written, "unknown": unknown }),
        );
        Ok(ExitCode::Done)
    }
}

impl Init {
    /// The values of all sources, in descending precedence.
    async fn draft(&self) -> Result<Draft, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let directory = std::env::current_dir().ok();
        let artifact = Artifact::read("artifact.json").ok().and_then(|artifact| artifact.image);
        let flag = |value: &Option<String>, name: &str| value.as_ref().map(|value| Known::new(value, name));
        let mut draft = Draft {
            project: flag(&self.project, "--project").or_else(|| project(variable, directory.as_deref())),
            repository: flag(&self.repository, "--repository"),
            environments: Vec::new(),
        };
        if let (None, Some(image)) = (&draft.repository, &artifact) {
            draft.repository = Some(Known::new(image.repository.path(), "artifact.json"));
        }
        let context = self.context()?;
        let lookup = Lookup { session: Session::from_env()?, timeout: self.timeout, context };
        for name in &self.environments {
            if draft.environments.iter().any(|(other, _)| other == name) {
                return Err(Failure::bad_input(format!("--env: the environment {name} is given twice")));
            }
            let mut values = Values::default();
            self.offer_flags(name, &mut values)?;
            if let Some(context) = &lookup.context {
                context.offer(&mut values);
            }
            for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
                if let Some(region) = variable(name) {
                    values.offer("region", Known::new(region, name));
                }
            }
            if !self.offline {
                lookup.extend(&mut values).await.map_err(|failure| failure.context(name))?;
            }
            if let ([_], Some(image)) = (self.environments.as_slice(), &artifact) {
                let registry = image.repository.registry().as_str();
                values.offer("registry", Known::new(registry, "artifact.json"));
            }
            draft.environments.push((name.clone(), values));
        }
        Ok(draft)
    }

    /// The context of kubectl, if a flag concerns Kubernetes.
    fn context(&self) -> Result<Option<Context>, Failure> {
        let target = &self.target;
        let is_asked = target.eks_workload.is_some()
            || target.eks_cluster.is_some()
            || target.eks_namespace.is_some()
            || self.settings.iter().any(|setting| setting.contains("eks."));
        match (Context::read(self.context.as_deref()), &self.context) {
            (Ok(context), None) if is_asked => Ok(Some(context)),
            (Ok(context), Some(_)) => Ok(Some(context)),
            (Err(reason), Some(_)) => Err(Failure::bad_input(format!("--context: {reason}"))),
            (Ok(_) | Err(_), None) => Ok(None),
        }
    }

    fn offer_flags(&self, environment: &Environment, values: &mut Values) -> Result<(), Failure> {
        let parsed = self.settings.iter().map(|text| self.setting(text)).collect::<Result<Vec<_>, _>>()?;
        let of = |wanted: Option<&Environment>, values: &mut Values| {
            for (_, key, value) in parsed.iter().filter(|(name, ..)| *name == wanted) {
                values.offer(key, Known::new(*value, "--setting"));
            }
        };
        of(Some(environment), values);
        of(None, values);
        let (place, target) = (&self.place, &self.target);
        let shown = |value: &Option<_>| value.as_ref().map(ToString::to_string);
        let flags: [(&str, Option<String>); 11] = [
            ("account", place.account.as_ref().map(ToString::to_string)),
            ("region", place.region.as_ref().map(ToString::to_string)),
            ("role", place.role.as_ref().map(ToString::to_string)),
            ("registry", place.registry.as_ref().map(ToString::to_string)),
            ("ecs.cluster", shown(&target.ecs_cluster)),
            ("ecs.service", shown(&target.ecs_service)),
            ("ecs.container", shown(&target.ecs_container)),
            ("eks.cluster", shown(&target.eks_cluster)),
            ("eks.namespace", shown(&target.eks_namespace)),
            ("eks.workload", target.eks_workload.as_ref().map(ToString::to_string)),
            ("eks.container", shown(&target.eks_container)),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                values.offer(key, Known::new(value, format!("--{}", key.replace('.', "-"))));
            }
        }
        Ok(())
    }

    /// Splits a setting into the environment, if it begins with the name of one, the key and the value.
    fn setting<'a>(&'a self, text: &'a str) -> Result<(Option<&'a Environment>, &'a str, &'a str), Failure> {
        let wrong = |reason: String| Failure::bad_input(format!("--setting {text:?}: {reason}"));
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(wrong("expected [ENV.]KEY=VALUE, as in prod.ecs.cluster=blue".to_owned()));
        };
        let own = key.split_once('.').and_then(|(first, rest)| {
            let name = self.environments.iter().find(|name| name.as_str() == first)?;
            is_setting(rest).then_some((name, rest))
        });
        match own {
            Some((name, key)) => Ok((Some(name), key, value)),
            None if is_setting(key) => Ok((None, key, value)),
            None => Err(wrong(format!("unknown setting {key:?}; config schema lists them"))),
        }
    }
}

/// The error about settings without which the file would be invalid.
fn incomplete(missing: &[Unknown], unknown: &[Unknown]) -> Failure {
    let list = |unknown: &[Unknown]| unknown.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let failure =
        Failure::bad_input(format!("nothing was written, because this is not known: {}", list(missing)));
    let unread: Vec<Unknown> =
        unknown.iter().filter(|one| one.reason.starts_with("not read")).cloned().collect();
    if unread.is_empty() {
        failure
    } else {
        failure.hint(list(&unread)).with_exit_code(ExitCode::Unavailable)
    }
}

/// Writes the file; returns `false` if it has this content already.
fn write(path: &Path, text: &str, overwrite: bool) -> Result<bool, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(ErrorClass::BadInput, error).context(format!("cannot write {}", path.display()))
    };
    match fs::read(path) {
        Ok(found) if found == text.as_bytes() => return Ok(false),
        Ok(_) if !overwrite => {
            return Err(Failure::refused(format!(
                "{} exists with another content and was not changed: pass --overwrite to replace it, or --config FILE \
                 to write another file",
                path.display()
            )));
        }
        Ok(_) => {
            document::write(path, text.as_bytes())?;
            return Ok(true);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    // A file that appeared in the meantime is not replaced either.
    let mut file = fs::File::create_new(path).map_err(|error| failed(&error))?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        let _ = fs::remove_file(path);
        return Err(failed(&error));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_an_existing_file_only_with_overwrite() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bp.toml");
        assert!(write(&path, "a", false).unwrap());
        assert!(!write(&path, "a", false).unwrap(), "a second run changes nothing");
        let refused = write(&path, "b", false).unwrap_err();
        assert_eq!(refused.exit_code(), ExitCode::Refused);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        assert!(write(&path, "b", true).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert!(write(&directory.path().join("none/bp.toml"), "a", false).is_err());
        #[cfg(unix)]
        {
            // A link to nowhere is neither followed nor replaced.
            let link = directory.path().join("link.toml");
            std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
            assert!(write(&link, "a", false).is_err());
            assert!(!directory.path().join("elsewhere").exists());
        }
    }
}
