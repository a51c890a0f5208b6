//! The tags of a task definition.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-using-tags.html>

use bp_artifact::config::{TAG_NAME, TAG_VALUE, is_tag_char};
use serde_json::{Value, json};

use super::{Overlay, TaskDefinition, keep_own_tags};
use crate::error::Error;

/// The maximum number of tags of a resource, besides those reserved by AWS.
pub(crate) const LIMIT: usize = 50;

/// Replaces characters that AWS does not allow in tags with `_`, and truncates to `max` characters.
fn allowed(text: &str, max: usize) -> String {
    text.trim().chars().map(|c| if is_tag_char(c) { c } else { '_' }).take(max).collect()
}

impl TaskDefinition {
    fn tags(&self) -> &[Value] {
        self.input.get("tags").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn tag(&self, name: &str) -> Option<&str> {
        self.tags().iter().find(|tag| tag["key"] == name)?["value"].as_str()
    }

    /// Sets a tag, in place if it exists, or removes it.
    fn set_tag(&mut self, name: &str, value: Option<&str>) {
        let mut tags = self.tags().to_vec();
        let name = allowed(name, TAG_NAME);
        let at = tags.iter().position(|tag| tag["key"] == *name);
        match (value.map(|value| allowed(value, TAG_VALUE)), at) {
            (Some(value), Some(at)) => tags[at]["value"] = json!(value),
            (Some(value), None) => tags.push(json!({ "key": name, "value": value })),
            (None, Some(at)) => drop(tags.remove(at)),
            (None, None) => {}
        }
        self.input.insert("tags".to_owned(), Value::Array(tags));
        keep_own_tags(&mut self.input);
    }

    fn untagged(&self) -> Self {
        let mut bare = self.clone();
        bare.input.remove("tags");
        bare
    }

    /// Applies the overlay's tags.
    pub(super) fn apply_tags(&mut self, overlay: &Overlay) -> Result<(), Error> {
        if overlay.without_tags {
            self.input.remove("tags");
            return Ok(());
        }
        overlay.tags.iter().for_each(|(name, value)| self.set_tag(name, value.as_deref()));
        self.check_tags()
    }

    /// Sets the tags about the image: from `overlay` for a new image, otherwise from `current`. If tags are disabled, a
    /// difference in tags alone does not require a new revision.
    pub(crate) fn with_image_tags(
        mut self,
        overlay: &Overlay,
        current: &TaskDefinition,
        is_new_image: bool,
    ) -> Result<Self, Error> {
        if overlay.without_tags {
            return Ok(if self.is_same(&current.untagged()) { current.clone() } else { self });
        }
        let of_image = overlay.image_tags.iter().filter(|(name, _)| !overlay.tags.contains_key(*name));
        for (name, value) in of_image {
            let value = if is_new_image { value.as_deref() } else { current.tag(name) };
            self.set_tag(name, value);
        }
        self.check_tags()?;
        self.arn = current.arn.clone().filter(|_| self.is_same(current));
        Ok(self)
    }

    fn check_tags(&self) -> Result<(), Error> {
        let count = self.tags().len();
        if count > LIMIT {
            return Err(Error::TooManyTags { definition: self.source.clone(), count, limit: LIMIT });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tags: &Value) -> TaskDefinition {
        let json = json!({ "family": "web", "tags": tags, "containerDefinitions": [{ "name": "web", "image": "i" }] });
        TaskDefinition::from_json("file.json", &json.to_string()).unwrap()
    }

    fn with(tags: &Value, overlay: &Overlay) -> Value {
        tagged(tags).with(overlay).unwrap().input.remove("tags").unwrap_or_default()
    }

    #[test]
    fn merges_tags_and_omits_those_reserved_by_aws() {
        let existing = json!([
            { "key": "Team", "value": "shop" },
            { "key": "aws:cloudformation:stack-name", "value": "shop" },
            { "key": "Owner", "value": "nobody" },
            { "key": "Old", "value": "x" },
        ]);
        let overlay = Overlay::default().tag("Owner", "shop-team").tag("App", "web").without_tag("Old");
        assert_eq!(
            with(&existing, &overlay),
            json!([
                { "key": "Team", "value": "shop" },
                { "key": "Owner", "value": "shop-team" },
                { "key": "App", "value": "web" },
            ])
        );
        assert_eq!(with(&json!([{ "key": "aws:x", "value": "y" }]), &Overlay::default()), Value::Null);
        assert_eq!(with(&existing, &overlay.without_tags()), Value::Null);
    }

    #[test]
    fn sanitizes_and_truncates_values() {
        let overlay = Overlay::default().tag("Version", " 1.4.2~rc{1}ä ").tag("Long", "x".repeat(300));
        let tags = with(&json!([]), &overlay);
        assert_eq!(tags[0]["value"].as_str().unwrap().len(), TAG_VALUE);
        assert_eq!(tags[1]["value"], "1.4.2_rc_1_ä");
    }

    #[test]
    fn rejects_more_tags_than_aws_accepts() {
        let overlay = |count: usize| {
            (0..count).fold(Overlay::default(), |overlay, n| overlay.tag(format!("tag-{n}"), "x"))
        };
        let existing = json!([{ "key": "Team", "value": "shop" }]);
        assert!(tagged(&existing).with(&overlay(LIMIT - 1)).is_ok());
        let error = tagged(&existing).with(&overlay(LIMIT)).unwrap_err();
        assert!(matches!(error, Error::TooManyTags { count: 51, limit: 50, .. }), "{error}");
    }
}
