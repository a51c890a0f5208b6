//! Filters of ListSecrets and BatchGetSecretValue.

use serde_json::Value;

use super::{
    error::{invalid_parameter, validation},
    secret::Secret,
};
use crate::aws::wire::{ApiError, texts};

/// Characters that separate words, if a text contains only one of them.
const SEPARATORS: [char; 7] = ['/', '-', '_', '+', '=', '.', '@'];

/// What a filter compares.
#[derive(Debug, Clone, Copy)]
enum Attribute {
    All,
    Name,
    Description,
    TagKey,
    TagValue,
    OwningService,
    PrimaryRegion,
}

/// A filter: a secret matches if one of its attributes matches one of the values. A value that starts with `!` is
/// negated.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    attribute: Attribute,
    values: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    /// The filters of a request.
    pub(super) fn all(input: &'a Value) -> Result<Vec<Self>, ApiError> {
        let filters = input["Filters"].as_array().into_iter().flatten().enumerate();
        filters.map(|(index, filter)| Filter::read(index, filter)).collect()
    }

    fn read(index: usize, filter: &'a Value) -> Result<Self, ApiError> {
        let name = filter["Key"].as_str().ok_or_else(|| invalid_parameter("Invalid filter key"))?;
        let attribute = match name {
            "all" => Attribute::All,
            "name" => Attribute::Name,
            "description" => Attribute::Description,
            "tag-key" => Attribute::TagKey,
            "tag-value" => Attribute::TagValue,
            "owning-service" => Attribute::OwningService,
            "primary-region" => Attribute::PrimaryRegion,
            other => {
                return Err(validation(format!(
                    "1 validation error detected: Value '{other}' at 'filters.{}.member.key' failed to satisfy \
                     constraint: Member must satisfy enum value set: [all, name, tag-key, description, tag-value]",
                    index + 1
                )));
            }
        };
        match texts(filter, "Values") {
            values if values.is_empty() => {
                Err(invalid_parameter(format!("Invalid filter values for key: {name}")))
            }
            values => Ok(Filter { attribute, values }),
        }
    }

    pub(super) fn matches(&self, secret: &Secret) -> bool {
        let attributes = self.attributes(secret);
        let any = |negated: bool| {
            let mut values = self.values.iter().filter_map(|value| match value.strip_prefix('!') {
                Some(rest) => negated.then_some(rest),
                None => (!negated).then_some(*value),
            });
            values.any(|value| {
                attributes.iter().any(|attribute| self.matches_value(attribute, value) != negated)
            })
        };
        any(false) || any(true)
    }

    fn attributes<'s>(&self, secret: &'s Secret) -> Vec<&'s str> {
        let description = secret.description.as_deref();
        let keys = secret.tags.iter().map(|(key, _)| key.as_str());
        let values = secret.tags.iter().map(|(_, value)| value.as_str());
        match self.attribute {
            Attribute::All => {
                std::iter::once(secret.name.as_str()).chain(description).chain(keys).chain(values).collect()
            }
            Attribute::Name => vec![&secret.name],
            Attribute::Description => description.into_iter().collect(),
            Attribute::TagKey => keys.collect(),
            Attribute::TagValue => values.collect(),
            // No service manages a secret of the sandbox.
            Attribute::OwningService => Vec::new(),
            Attribute::PrimaryRegion => secret.primary_region.as_deref().into_iter().collect(),
        }
    }

    fn matches_value(&self, attribute: &str, value: &str) -> bool {
        match self.attribute {
            Attribute::All | Attribute::Description | Attribute::OwningService => {
                matches_words(attribute, value)
            }
            Attribute::Name | Attribute::TagKey | Attribute::TagValue | Attribute::PrimaryRegion => {
                attribute.starts_with(value)
            }
        }
    }
}

/// Whether each word of `value` is the beginning of a word of `attribute`, in any case.
fn matches_words(attribute: &str, value: &str) -> bool {
    let (attribute, value) = (words(attribute), words(value));
    !value.is_empty()
        && value.iter().all(|word| attribute.iter().any(|candidate| candidate.starts_with(word.as_str())))
}

/// The words of a text, in lower case. A word starts after a separator and at a capital letter before a small one.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<char> = text.chars().filter(|c| SEPARATORS.contains(c)).collect();
    found.sort_unstable();
    found.dedup();
    // The service does not divide a text with different separators.
    if found.len() > 1 {
        return vec![text.to_lowercase()];
    }
    let mut words = Vec::new();
    for part in text.split(SEPARATORS) {
        let chars: Vec<char> = part.chars().collect();
        let mut word = String::new();
        for (index, c) in chars.iter().enumerate() {
            let starts =
                !c.is_ascii_lowercase() && chars.get(index + 1).is_some_and(char::is_ascii_lowercase);
            let ends = !c.is_ascii_lowercase() && index > 0 && chars[index - 1].is_ascii_lowercase();
            if starts || ends {
                words.push(std::mem::take(&mut word));
            }
            word.push(*c);
        }
        words.push(word);
    }
    words.iter().map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_texts_into_words() {
        assert_eq!(words("one and two"), ["one", "and", "two"]);
        assert_eq!(words("myTestPhrase"), ["my", "test", "phrase"]);
        assert_eq!(words("prod/AppBeta/1f"), ["prod", "app", "beta", "1f"]);
        assert_eq!(words("uat/COMPANYthings"), ["uat", "compan", "ythings"]);
        assert_eq!(words("prod-app/1"), ["prod-app/1"]);
        assert!(words("+").is_empty());
    }

    #[test]
    fn matches_the_beginnings_of_words() {
        assert!(matches_words("one and two", "o T"));
        assert!(!matches_words("one", "one two"));
        assert!(!matches_words("one", "ne"));
        assert!(!matches_words("one", "+"));
    }
}
