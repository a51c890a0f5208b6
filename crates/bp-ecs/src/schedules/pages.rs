//! The limit of lists that are read page by page.

use crate::error::Error;

/// The maximum number of pages of a list.
pub(super) const PAGES: usize = 100;

/// The error about a list that does not end.
pub(super) fn too_many_pages(operation: &'static str) -> Error {
    Error::UnexpectedResponse { operation, reason: format!("more than {PAGES} pages") }
}
