//! Bindings of names (variables, keys, files) to references, and the errors of converting them.

use std::collections::BTreeSet;

use crate::reference::{ParseError, Reference};

/// A name of a variable, key or file, and the reference that provides its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The reference that provides its value.
    pub reference: Reference,
}

/// Bindings with distinct names, in their order.
///
/// ```
/// use bp_secrets::projection::Bindings;
///
/// let bindings = Bindings::new([("DB_HOST", "/prod/db/host".parse()?)])?;
/// assert_eq!(bindings.iter().next().unwrap().name, "DB_HOST");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bindings(Vec<Binding>);

impl Bindings {
    /// Binds names to references.
    ///
    /// # Errors
    /// When a name is empty, has characters other than letters, digits, `_`, `-`, `.`, or is bound twice.
    pub fn new<N: Into<String>>(
        bindings: impl IntoIterator<Item = (N, Reference)>,
    ) -> Result<Self, ProjectionError> {
        let bindings = bindings.into_iter().map(|(name, reference)| Binding { name: name.into(), reference });
        Self::checked(bindings.collect())
    }

    fn checked(bindings: Vec<Binding>) -> Result<Self, ProjectionError> {
        let mut names = BTreeSet::new();
        for Binding { name, .. } in &bindings {
            let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if name.is_empty() || name.len() > 253 || !name.chars().all(legal) {
                return Err(ProjectionError::Name {
                    name: name.clone(),
                    reason: "is not valid: use 1 to 253 letters, digits, `_`, `-` and `.`",
                });
            }
            if !names.insert(name) {
                return Err(ProjectionError::Name { name: name.clone(), reason: "is bound twice" });
            }
        }
        Ok(Bindings(bindings))
    }

    /// Binds names to references given as text.
    pub(super) fn parsed<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        parse: impl Fn(&str) -> Result<Reference, ParseError>,
    ) -> Result<Self, ProjectionError> {
        let binding = |(name, text): (&str, &str)| match parse(text) {
            Ok(reference) => Ok(Binding { name: name.to_owned(), reference }),
            Err(source) => Err(ProjectionError::Reference { name: name.to_owned(), source }),
        };
        Self::checked(texts.into_iter().map(binding).collect::<Result<_, _>>()?)
    }

    /// The bindings in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Binding> {
        self.0.iter()
    }

    /// The references in their order, to read or check.
    pub fn references(&self) -> Vec<Reference> {
        self.0.iter().map(|binding| binding.reference.clone()).collect()
    }

    /// The number of bindings.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bindings.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Bindings {
    type Item = &'a Binding;
    type IntoIter = std::slice::Iter<'a, Binding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Bindings cannot be printed in a format, or parsed from it. The error quotes names only, no other part of the input.
///
/// ```
/// use bp_secrets::projection::{ProjectionError, ecs, env};
///
/// let by_name = env::parse("PASSWORD=secretsmanager:prod/db")?;
/// assert!(matches!(ecs::print(&by_name), Err(ProjectionError::NotExpressible { .. })));
/// # Ok::<(), ProjectionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The input does not have the structure of the format.
    #[error("{at} {reason}")]
    Shape {
        /// The path or line.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// A name that cannot be bound.
    #[error("the name {name:?} {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why it cannot be bound.
        reason: &'static str,
    },
    /// The text that a name is bound to is not a valid reference.
    #[error("the value of {name} is not a valid reference")]
    Reference {
        /// The name.
        name: String,
        /// What is wrong with the text.
        #[source]
        source: ParseError,
    },
    /// The format cannot express the reference.
    #[error("{name} cannot be written for {form}: {reason}")]
    NotExpressible {
        /// The name.
        name: String,
        /// The format.
        form: &'static str,
        /// The reason, and what to do.
        reason: String,
    },
}

impl ProjectionError {
    pub(super) fn shape(at: impl Into<String>, reason: impl Into<String>) -> Self {
        ProjectionError::Shape { at: at.into(), reason: reason.into() }
    }

    pub(super) fn not_expressible(name: &str, form: &'static str, reason: impl Into<String>) -> Self {
        ProjectionError::NotExpressible { name: name.to_owned(), form, reason: reason.into() }
    }
}
