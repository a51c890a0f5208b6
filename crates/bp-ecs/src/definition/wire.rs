//! Capture of raw response bodies below the SDK's types.

use std::sync::{Arc, Mutex};

use aws_sdk_ecs::config::{
    ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef,
};
use bp_artifact::sync::lock;
use serde_json::Value;

/// An SDK interceptor that stores the raw body of a response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Option<Vec<u8>>>>);

impl Capture {
    /// The stored body as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        let body = lock(&self.0);
        serde_json::from_slice(body.as_deref()?).ok()
    }
}

impl Intercept for Capture {
    fn name(&self) -> &'static str {
        "CaptureBody"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), aws_sdk_ecs::error::BoxError> {
        let body = context.response().body().bytes().map(<[u8]>::to_vec);
        *lock(&self.0) = body;
        Ok(())
    }
}
