//! The server's time, from the responses of an AWS client.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use jiff::{Timestamp, fmt::rfc2822};

use crate::sync::lock;

/// An interceptor that keeps the `Date` header of the latest response. AWS rejects requests that were signed with a time
/// that differs from the server's by more than five minutes; also such a rejection has the header.
///
/// ```
/// use bp_artifact::aws::ServerTime;
///
/// # fn client(config: &aws_types::SdkConfig) -> aws_sdk_ecr::Client {
/// let time = ServerTime::default();
/// let config = aws_sdk_ecr::config::Builder::from(config).interceptor(time.clone()).build();
/// // After a request, `time.latest()` is the server's time.
/// aws_sdk_ecr::Client::from_conf(config)
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ServerTime(Arc<Mutex<Option<Timestamp>>>);

impl ServerTime {
    /// The time in the latest response, to the second. `None` without a response or a valid header.
    pub fn latest(&self) -> Option<Timestamp> {
        *lock(&self.0)
    }
}

impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "ServerTime"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        *lock(&self.0) = date.and_then(|date| Some(rfc2822::parse(date).ok()?.timestamp()));
        Ok(())
    }
}
