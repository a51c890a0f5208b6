//! One target of a saga.

use std::sync::Arc;

use crate::{deploy::Target, image::ResolvedImage};

/// One target of a [`Saga`](super::Saga), and the image for it.
#[derive(Clone)]
pub struct Step {
    /// The target.
    pub target: Arc<dyn Target>,
    /// The image.
    pub image: ResolvedImage,
    /// The stage: stages are deployed in the order of their numbers, the targets of one stage concurrently.
    pub stage: u32,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("target", &self.target.id())
            .field("image", &self.image.reference)
            .field("stage", &self.stage)
            .finish()
    }
}
