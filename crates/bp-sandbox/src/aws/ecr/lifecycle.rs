//! Lifecycle policies of ECR repositories and their previews. No image is removed: only previews are evaluated.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::request::{Target, invalid, page, seconds, strings, with_next};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call},
    },
    registry::ImageRecord,
    sync::lock,
};

/// How long a preview takes.
const PREVIEW: Duration = Duration::from_secs(3);
const DAY: f64 = 86_400.0;

/// The policies and previews by registry host and repository.
#[derive(Debug, Default)]
pub(super) struct Policies(Mutex<BTreeMap<(String, String), Policy>>);

#[derive(Debug, Default)]
struct Policy {
    text: Option<String>,
    preview: Option<Preview>,
}

#[derive(Debug)]
struct Preview {
    text: String,
    started_at: Timestamp,
}

impl Preview {
    fn status(&self, now: Timestamp) -> &'static str {
        if now < self.started_at + PREVIEW { "IN_PROGRESS" } else { "COMPLETE" }
    }
}

impl Policies {
    fn at<T>(&self, target: &Target<'_>, work: impl FnOnce(&mut Policy) -> T) -> T {
        let key = (target.registry.host().to_owned(), target.name.to_owned());
        work(lock(&self.0).entry(key).or_default())
    }

    pub(super) fn put(&self, context: &Context, call: &Call) -> Answer {
        let target = Target::of(context, call)?;
        let text = call.text("lifecyclePolicyText").to_owned();
        rules(&text)?;
        self.at(&target, |policy| policy.text = Some(text.clone()));
        Ok(answer(&target, &text))
    }

    pub(super) fn get(&self, context: &Context, call: &Call) -> Answer {
        let target = Target::of(context, call)?;
        let text = self.at(&target, |policy| policy.text.clone()).ok_or_else(|| no_policy(&target))?;
        Ok(answer(&target, &text))
    }

    pub(super) fn delete(&self, context: &Context, call: &Call) -> Answer {
        let target = Target::of(context, call)?;
        let text = self.at(&target, |policy| policy.text.take()).ok_or_else(|| no_policy(&target))?;
        Ok(answer(&target, &text))
    }

    pub(super) fn start_preview(&self, context: &Context, call: &Call) -> Answer {
        let target = Target::of(context, call)?;
        let now = context.clock.now();
        let given = call.input["lifecyclePolicyText"].as_str().map(str::to_owned);
        let text = self.at(&target, |policy| {
            if policy.preview.as_ref().is_some_and(|preview| preview.status(now) == "IN_PROGRESS") {
                let message = format!(
                    "A lifecycle policy preview is already in progress for the repository with name '{}' in the registry \
                     with id '{}'",
                    target.name, target.id
                );
                return Err(ApiError::new(400, "LifecyclePolicyPreviewInProgressException", message));
            }
            let text = given.or_else(|| policy.text.clone()).ok_or_else(|| no_policy(&target))?;
            rules(&text)?;
            policy.preview = Some(Preview { text: text.clone(), started_at: now });
            Ok(text)
        })?;
        let mut started = answer(&target, &text);
        started["status"] = json!("IN_PROGRESS");
        Ok(started)
    }

    pub(super) fn get_preview(&self, context: &Context, call: &Call) -> Answer {
        let target = Target::of(context, call)?;
        let now = context.clock.now();
        let found = self.at(&target, |policy| {
            policy.preview.as_ref().map(|preview| (preview.text.clone(), preview.status(now)))
        });
        let (text, status) = found.ok_or_else(|| no_preview(&target))?;
        let mut shown = answer(&target, &text);
        shown["status"] = json!(status);
        if status != "COMPLETE" {
            return Ok(shown);
        }
        let images = target.registry.images(target.name).unwrap_or_default();
        let rules = rules(&text)?;
        let selected = select(&rules, &images, now);
        let of = |kind: &str| selected.iter().filter(|(_, rule)| rule["action"]["type"] == kind).count();
        shown["summary"] = json!({ "expiringImageTotalCount": of("expire") });
        if of("transition") > 0 {
            let archived = json!({ "targetStorageClass": "ARCHIVE", "imageTotalCount": of("transition") });
            shown["summary"]["transitioningImageTotalCounts"] = json!([archived]);
        }
        let requested: Vec<&str> = call.input["imageIds"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|id| id["imageDigest"].as_str())
            .collect();
        let results: Vec<Value> = selected
            .into_iter()
            .filter(|(image, _)| requested.is_empty() || requested.contains(&image.manifest.digest.as_str()))
            .map(|(image, rule)| result(image, rule))
            .collect();
        let (results, next) = page(results, call, 100)?;
        shown["previewResults"] = json!(results);
        Ok(with_next(shown, next))
    }
}

fn answer(target: &Target<'_>, text: &str) -> Value {
    json!({ "registryId": target.id, "repositoryName": target.name, "lifecyclePolicyText": text })
}

fn no_policy(target: &Target<'_>) -> ApiError {
    let message = format!(
        "Lifecycle policy does not exist for the repository with name '{}' in the registry with id '{}'",
        target.name, target.id
    );
    ApiError::new(400, "LifecyclePolicyNotFoundException", message)
}

fn no_preview(target: &Target<'_>) -> ApiError {
    let message = format!(
        "There is no dry run for this repository with name '{}' in the registry with id '{}'",
        target.name, target.id
    );
    ApiError::new(400, "LifecyclePolicyPreviewNotFoundException", message)
}

/// The rules of a policy, by priority.
fn rules(text: &str) -> Result<Vec<Value>, ApiError> {
    let malformed = || {
        invalid(
            "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure'",
        )
    };
    let policy: Value = serde_json::from_str(text).map_err(|_| malformed())?;
    let mut rules =
        policy["rules"].as_array().cloned().filter(|all| !all.is_empty()).ok_or_else(malformed)?;
    if !rules.iter().all(|rule| rule["rulePriority"].is_u64() && rule["selection"]["countNumber"].is_number())
    {
        return Err(malformed());
    }
    rules.sort_by_key(|rule| rule["rulePriority"].as_u64());
    Ok(rules)
}

fn result(image: &ImageRecord, rule: &Value) -> Value {
    let transition = rule["action"]["type"] == "transition";
    let mut action = json!({ "type": if transition { "TRANSITION" } else { "EXPIRE" } });
    if transition {
        action["targetStorageClass"] = json!("ARCHIVE");
    }
    let mut result = json!({
        "imageDigest": image.manifest.digest,
        "imagePushedAt": seconds(image.manifest.pushed_at),
        "action": action,
        "appliedRulePriority": rule["rulePriority"],
        "storageClass": if image.archived_at.is_some() { "ARCHIVE" } else { "STANDARD" },
    });
    if !image.tags.is_empty() {
        result["imageTags"] = json!(image.tags);
    }
    result
}

/// The selected images, each with its rule. An image that a rule matches is not considered by later ones, and one that
/// an index refers to is never selected.
fn select<'a>(
    rules: &'a [Value],
    images: &'a [ImageRecord],
    now: Timestamp,
) -> Vec<(&'a ImageRecord, &'a Value)> {
    let children: BTreeSet<String> = images.iter().flat_map(children).collect();
    let mut left: Vec<&ImageRecord> =
        images.iter().filter(|image| !children.contains(&image.manifest.digest)).collect();
    left.sort_by_key(|image| std::cmp::Reverse(image.manifest.pushed_at));
    let mut selected = Vec::new();
    for rule in rules {
        let selection = &rule["selection"];
        let (matching, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|image| matches(selection, image));
        left = others;
        let limit = selection["countNumber"].as_f64().unwrap_or_default();
        let since = |at: Timestamp| (now.as_second() - at.as_second()) as f64 > limit * DAY;
        let is_old = |at: usize, image: &ImageRecord| match selection["countType"].as_str() {
            Some("imageCountMoreThan") => at as f64 >= limit,
            Some("sinceImagePushed") => since(image.manifest.pushed_at),
            Some("sinceImageTransitioned") => image.archived_at.is_some_and(since),
            _ => false,
        };
        let expired = matching.into_iter().enumerate().filter(|(at, image)| is_old(*at, image));
        selected.extend(expired.map(|(_, image)| (image, rule)));
    }
    selected
}

fn children(image: &ImageRecord) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap_or_default();
    let children = manifest["manifests"].as_array().into_iter().flatten();
    children.filter_map(|child| child["digest"].as_str()).map(str::to_owned).collect()
}

/// Whether the selection of a rule matches the image: by storage class, tag status, prefixes and patterns of tags.
fn matches(selection: &Value, image: &ImageRecord) -> bool {
    let wanted = selection["storageClass"].as_str() == Some("archive");
    if wanted != image.archived_at.is_some() {
        return false;
    }
    let every = |list: &str, is_match: fn(&str, &str) -> bool| {
        strings(&selection[list]).all(|part| image.tags.iter().any(|tag| is_match(part, tag)))
    };
    match selection["tagStatus"].as_str() {
        Some("untagged") => image.tags.is_empty(),
        Some("tagged") => {
            !image.tags.is_empty()
                && every("tagPrefixList", |prefix, tag| tag.starts_with(prefix))
                && every("tagPatternList", is_pattern)
        }
        _ => true,
    }
}

/// Whether `tag` matches a pattern with `*` for any characters.
fn is_pattern(pattern: &str, tag: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == tag,
        Some((start, rest)) => tag.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && is_pattern(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_tags() {
        for (pattern, tag, expected) in [
            ("v1", "v1", true),
            ("v1", "v10", false),
            ("v1*", "v10", true),
            ("*-prod", "web-prod", true),
            ("*-prod", "web-prod2", false),
            ("a*b*c", "a1b2c", true),
        ] {
            assert_eq!(is_pattern(pattern, tag), expected, "{pattern} {tag}");
        }
    }
}
