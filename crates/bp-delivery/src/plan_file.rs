//! Files with the plan of a copy, as `--plan --output json` prints it.

use std::{fs::File, io::Read as _, path::Path};

use bp_artifact::{Digest, ExitCode, Tag, error::ParseError, text::single_line};
use bp_promote::{
    content::Reference,
    copy::{CopyPlan, RunPlan},
    store::Source,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use crate::Failure;

/// The maximum size of a plan: some thousands of images.
const MAX_SIZE: u64 = 64 << 20;
/// How many images of the source are checked at a time.
const CHECKS: usize = 16;

/// Reads a plan: the output of `--plan --output json`, or the member `data` of its result.
pub(crate) fn read(path: &Path) -> Result<RunPlan, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let opened = File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text));
    opened.map_err(|error| Failure::bad_input(format!("cannot read {shown}: {error}")))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(Failure::bad_input(format!("{shown} is larger than {MAX_SIZE} bytes: it is not a plan")));
    }
    let documents: Vec<Value> = match serde_json::from_str(&text) {
        Ok(document) => vec![document],
        Err(_) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    };
    let plans = documents.into_iter().filter_map(|mut document| match document.get("images") {
        Some(_) => Some(document),
        None => document.get_mut("data").map(Value::take).filter(|data| data.get("images").is_some()),
    });
    let [plan] = <[Value; 1]>::try_from(plans.collect::<Vec<_>>()).map_err(|plans| {
        let count = plans.len();
        Failure::bad_input(format!(
            "{shown} contains {count} plans instead of one: write it with --plan --output json"
        ))
    })?;
    let plan: RunPlan = serde_json::from_value(plan).map_err(|error| {
        let error = single_line(&error.to_string());
        Failure::bad_input(format!("{shown} is not a plan that this version can apply: {error}"))
    })?;
    if plan.images.is_empty() {
        return Err(Failure::bad_input(format!("the plan {shown} contains no image")));
    }
    Ok(plan)
}

/// The reference that a plan contains as text.
pub(crate) fn reference(text: &str) -> Result<Reference, ParseError> {
    Ok(if text.contains(':') {
        Reference::Digest(text.parse::<Digest>()?)
    } else {
        Reference::Tag(text.parse::<Tag>()?)
    })
}

/// Checks that the source's tags still point to what was planned.
pub(crate) async fn check_unmoved(images: &[&CopyPlan], source: &impl Source) -> Result<(), Failure> {
    let planned = images.iter().filter_map(|image| Some((image.source_reference.as_deref()?, *image)));
    stream::iter(planned.collect::<Vec<_>>())
        .map(Ok)
        .try_for_each_concurrent(CHECKS, |(name, image)| check_one(name, image, source))
        .await
}

async fn check_one(name: &str, image: &CopyPlan, source: &impl Source) -> Result<(), Failure> {
    let reference = reference(name)?;
    if let Reference::Digest(_) = reference {
        return Ok(());
    }
    let planned = image.selected_from.as_ref().unwrap_or(&image.digest);
    let now = match source.manifest(&reference).await {
        Ok(manifest) if manifest.digest == *planned => return Ok(()),
        Ok(manifest) => format!("points to {}", manifest.digest),
        Err(error) if error.is_not_found() => "does not exist".to_owned(),
        Err(error) => return Err(error.into()),
    };
    let moved = format!(
        "{name} of {} now {now}, but the plan copies {planned}: create a new plan",
        single_line(&image.source)
    );
    Err(Failure::refused(moved).with_exit_code(ExitCode::Superseded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn read_text(text: &str) -> Result<RunPlan, Failure> {
        let file = std::env::temp_dir().join(format!("plan-{}-{}", std::process::id(), name_of(text)));
        std::fs::write(&file, text).unwrap();
        let plan = read(&file);
        std::fs::remove_file(&file).unwrap();
        plan
    }

    fn name_of(text: &str) -> String {
        Digest::sha256(text).as_str()[7..23].to_owned()
    }

    fn plan() -> String {
        let image = serde_json::json!({
            "source": "a.example.com/web", "destination": "b.example.com/web", "reference": "v1",
            "digest": DIGEST, "outcome": "copied", "manifests": [], "blobs": [],
            "requests": { "source": 1, "destination": 1 },
        });
        serde_json::json!({ "images": [image] }).to_string()
    }

    #[test]
    fn reads_the_output_of_a_plan_and_its_data() {
        let plan = plan();
        let line = format!(r#"{{"type":"result","data":{plan}}}"#);
        let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&line).unwrap()).unwrap();
        let events = format!("{}\n{line}\n", r#"{"type":"event","data":{"event":"progress"}}"#);
        for text in [&plan, &line, &pretty, &events] {
            let read = read_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.images[0].digest.as_str(), DIGEST);
        }
    }

    #[test]
    fn rejects_what_is_not_one_plan() {
        let plan = plan();
        for (text, part) in [
            (String::new(), "contains 0 plans"),
            ("{}".to_owned(), "contains 0 plans"),
            ("nonsense\n".to_owned(), "contains 0 plans"),
            (format!("{plan}\n{plan}"), "contains 2 plans"),
            (r#"{"images":[]}"#.to_owned(), "contains no image"),
            (r#"{"images":[{"source":1}]}"#.to_owned(), "not a plan that this version can apply"),
            (plan.replace("sha256:44", "sha256:zz"), "not a plan that this version can apply"),
        ] {
            let error = read_text(&text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.exit_code(), ExitCode::BadInput);
        }
    }
}
