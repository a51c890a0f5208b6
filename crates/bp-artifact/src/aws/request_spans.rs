//! A `tracing` span for each attempt of an AWS request.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef},
        },
        orchestrator::Metadata,
        retries::RequestAttempts,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_types::request_id::RequestId as _;
use tracing::{
    Span,
    field::{Empty, display},
};

use crate::{host::host_and_port, text::SingleLine};

/// An interceptor that opens a span `aws_request`, at level debug, for each attempt of a request: `service`,
/// `operation`, `method`, `host`, `attempt`, `status`, `request_id`. No path, query, header or body is recorded.
///
/// `status` and `request_id` are missing without a response. The span is open for the duration of the attempt, but never
/// entered: an interceptor cannot follow the SDK's future. Its parent is the SDK's own span, or the caller's if the
/// subscriber disables that one.
///
/// ```
/// use bp_artifact::aws::RequestSpans;
///
/// # fn client(config: &aws_types::SdkConfig) -> aws_sdk_ecr::Client {
/// let config = aws_sdk_ecr::config::Builder::from(config).interceptor(RequestSpans).build();
/// aws_sdk_ecr::Client::from_conf(config)
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestSpans;

/// The span of the attempt in progress.
#[derive(Debug)]
struct AttemptSpan(Span);

impl Storable for AttemptSpan {
    type Storer = StoreReplace<Self>;
}

impl Intercept for RequestSpans {
    fn name(&self) -> &'static str {
        "RequestSpans"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let span = tracing::debug_span!(
            "aws_request",
            service = config.load::<Metadata>().map(Metadata::service),
            operation = config.load::<Metadata>().map(Metadata::name),
            method = request.method(),
            host = host_and_port(request.uri()),
            attempt = config.load::<RequestAttempts>().map(RequestAttempts::attempts),
            status = Empty,
            request_id = Empty,
        );
        if !span.is_disabled() {
            config.interceptor_state().store_put(AttemptSpan(span));
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(AttemptSpan(span)) = config.load::<AttemptSpan>() else { return Ok(()) };
        if let Some(response) = context.response() {
            span.record("status", response.status().as_u16());
            if let Some(id) = response.request_id() {
                span.record("request_id", display(SingleLine(id)));
            }
        }
        config.interceptor_state().unset::<AttemptSpan>();
        Ok(())
    }
}
