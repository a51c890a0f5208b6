//! Filters of GetParametersByPath.

use serde_json::Value;

use super::parameter::Parameter;
use crate::aws::wire::{ApiError, text, texts};

/// What a filter compares.
#[derive(Debug, Clone, Copy)]
enum Attribute {
    Type,
    KeyId,
    Label,
}

/// A filter: a parameter matches if it has one of the values.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    attribute: Attribute,
    by_prefix: bool,
    values: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    /// The filters of a request.
    pub(super) fn all(input: &'a Value) -> Result<Vec<Self>, ApiError> {
        input["ParameterFilters"].as_array().into_iter().flatten().map(Filter::read).collect()
    }

    fn read(filter: &'a Value) -> Result<Self, ApiError> {
        let attribute = match text(filter, "Key") {
            "Type" => Attribute::Type,
            "KeyId" => Attribute::KeyId,
            "Label" => Attribute::Label,
            other => {
                let message = format!(
                    "The following filter key is not valid: {other}. Valid filter keys include: [Type, KeyId]."
                );
                return Err(ApiError::new(400, "InvalidFilterKey", message));
            }
        };
        let by_prefix = match text(filter, "Option") {
            "" | "Equals" => false,
            "BeginsWith" => true,
            other => {
                let message = format!(
                    "The following filter option is not valid: {other}. Valid options include: [BeginsWith, Equals]."
                );
                return Err(ApiError::new(400, "InvalidFilterOption", message));
            }
        };
        Ok(Filter { attribute, by_prefix, values: texts(filter, "Values") })
    }

    pub(super) fn matches(&self, parameter: &Parameter) -> bool {
        let matches = |found: &str| {
            self.values
                .iter()
                .any(|value| if self.by_prefix { found.starts_with(value) } else { found == *value })
        };
        match self.attribute {
            Attribute::Type => matches(&parameter.kind),
            Attribute::KeyId => parameter.key.as_deref().is_some_and(matches),
            Attribute::Label => {
                parameter.latest().is_some_and(|latest| latest.labels.iter().any(|l| matches(l)))
            }
        }
    }
}
