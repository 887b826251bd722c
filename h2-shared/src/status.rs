//! The gRPC status of an error; the table is on the page of [`GrpcTransport`](crate::GrpcTransport).

use std::sync::Arc;

use h2::Reason;
use tonic::{Code, Status};

use crate::error::{ConnectError, Error};

/// The status of a call that failed without one from its server. The error is its source.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::RequestBody(source) => match Self::try_from_error(source) {
                Ok(status) => return status,
                Err(source) => Error::RequestBody(source),
            },
            error => error,
        };
        let mut status = Self::new(code(&error), error.to_string());
        status.set_source(Arc::new(error));
        status
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::InvalidRequest(_) => Code::Internal,
        Error::Acquire(error) => code_of_acquire(error),
        Error::Unprocessed { .. } | Error::ConnectionLost { .. } => Code::Unavailable,
        Error::Reset { reason, .. } => code_of_reset(*reason),
        Error::ResponseTimeout(_) | Error::BodyTimeout(_) | Error::TotalTimeout { .. } => {
            Code::DeadlineExceeded
        }
        Error::BodyTooLarge { .. } => Code::ResourceExhausted,
        // The request stream failed with an error that is no status.
        Error::RequestBody(_) => Code::Unknown,
    }
}

fn code_of_acquire(error: &pool_common::Error<ConnectError>) -> Code {
    use pool_common::Error::{Closed, Exhausted, TooManyWaiters};
    match error {
        Closed { .. } => Code::Cancelled,
        Exhausted { .. } | TooManyWaiters { .. } => Code::ResourceExhausted,
        _ => Code::Unavailable,
    }
}

/// As gRPC over HTTP/2 maps the codes of RST_STREAM ("Errors").
fn code_of_reset(reason: Reason) -> Code {
    match reason {
        Reason::NO_ERROR
        | Reason::PROTOCOL_ERROR
        | Reason::INTERNAL_ERROR
        | Reason::FLOW_CONTROL_ERROR
        | Reason::SETTINGS_TIMEOUT
        | Reason::FRAME_SIZE_ERROR
        | Reason::COMPRESSION_ERROR
        | Reason::CONNECT_ERROR
        | Reason::HTTP_1_1_REQUIRED => Code::Internal,
        Reason::REFUSED_STREAM => Code::Unavailable,
        Reason::CANCEL => Code::Cancelled,
        Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::InvalidRequest;

    #[test]
    fn the_status_of_a_request_stream_is_kept() {
        let source = Status::data_loss("the disk");
        let status = Status::from(Error::RequestBody(source.into()));
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "the disk"));
        let status = Status::from(Error::RequestBody("no status".into()));
        assert_eq!(status.code(), Code::Unknown);
    }

    #[test]
    fn the_error_is_the_source() {
        let status = Status::from(Error::from(InvalidRequest::Connect));
        let source = std::error::Error::source(&status).unwrap();
        assert!(source.downcast_ref::<Error>().is_some());
        assert_eq!(status.message(), source.to_string());
    }
}
