//! Tags of AWS resources.

use std::collections::BTreeMap;

use super::{error::ConfigError, layer::Settings};

/// The maximum number of characters in the name of a tag.
pub const TAG_NAME: usize = 128;
/// The maximum number of characters in the value of a tag.
pub const TAG_VALUE: usize = 256;

/// Whether AWS allows a character in the names and values of tags.
///
/// ```
/// use bp_artifact::config::is_tag_char;
///
/// assert!("team: shop/web".chars().all(is_tag_char) && !is_tag_char('~'));
/// ```
pub fn is_tag_char(c: char) -> bool {
    c.is_alphanumeric() || " _.:/=+-@".contains(c)
}

/// Tags, validated by the rules of AWS.
pub(super) fn tags(settings: &Settings) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut tags = BTreeMap::new();
    for (name, setting) in settings.section("tags") {
        let reason = if name.to_ascii_lowercase().starts_with("aws:") {
            "names that start with aws: are reserved"
        } else if name.chars().count() > TAG_NAME || setting.value.chars().count() > TAG_VALUE {
            "a name has at most 128 characters and a value 256"
        } else if !(name.chars().all(is_tag_char) && setting.value.chars().all(is_tag_char)) {
            "a tag may contain only letters, digits, spaces and _ . : / = + - @"
        } else {
            tags.insert(name.to_owned(), setting.value.clone());
            continue;
        };
        return Err(setting.invalid(format!("the tag {name:?} is not allowed: {reason}")));
    }
    Ok(tags)
}
