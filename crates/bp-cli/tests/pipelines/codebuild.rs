//! CodeBuild: runs the phases of a build specification, with the documented variables of a build that CodePipeline starts.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::site::{Site, copy};

/// Runs a build specification in `input`, a directory with the input artifact; returns the directory of its artifacts, or
/// what the failed phase printed.
pub(crate) async fn build(
    site: &Site,
    specification: &str,
    input: &Path,
    variables: &[(&str, &str)],
) -> Result<tempfile::TempDir, String> {
    let document: Value = serde_saphyr::from_str(specification).unwrap();
    assert_eq!(document["version"].as_f64(), Some(0.2));
    assert_eq!(document["env"]["shell"], "bash");
    let workspace = site.workspace(false);
    copy(input, workspace.path());
    let mut all: BTreeMap<String, String> = [
        ("CI", "true"),
        ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:eu-central-1:111111111111:build/shop-build:b1e6661e"),
        ("CODEBUILD_BUILD_ID", "shop-build:b1e6661e"),
        ("CODEBUILD_BUILD_NUMBER", "12"),
        ("CODEBUILD_BUILD_SUCCEEDING", "1"),
        ("CODEBUILD_INITIATOR", "codepipeline/shop"),
        ("CODEBUILD_SOURCE_VERSION", "arn:aws:s3:::shop-artifacts/shop/Source/h1Wv5nB"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));

    let mut failed = None;
    for phase in ["install", "pre_build", "build", "post_build"] {
        let Some(phase) = document["phases"].get(phase) else { continue };
        // `build` is left out after a failure, and `finally` is not.
        for (list, is_needed) in [("commands", failed.is_none()), ("finally", true)] {
            let Some(commands) = phase[list].as_array().filter(|_| is_needed) else { continue };
            // All commands run in one shell. The first whose last exit code is not 0 ends the phase; a failure in the
            // middle of a command of several lines does not.
            let each = commands
                .iter()
                .map(|command| format!("{}\ncode=$?; [ $code = 0 ] || exit $code", text(command)));
            let script = each.collect::<Vec<_>>().join("\n").replace("/usr/local/bin/bp", &local(site));
            let path = site.path("bin").display().to_string();
            fs::create_dir_all(&path).unwrap();
            let ended = site.run(workspace.path(), &[], &script, &all, &path).await;
            if ended.code != 0 && failed.is_none() {
                failed = Some(ended.output);
            }
        }
    }
    if let Some(output) = failed {
        return Err(output);
    }
    let artifacts = site.workspace(false);
    for file in document["artifacts"]["files"].as_array().into_iter().flatten() {
        let file = file.as_str().unwrap();
        let target = artifacts.path().join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(workspace.path().join(file), target).unwrap();
    }
    Ok(artifacts)
}

fn text(command: &Value) -> &str {
    command.as_str().expect("a command is text")
}

/// Where this test may install a program.
fn local(site: &Site) -> String {
    site.path("bin").join("bp").display().to_string()
}
