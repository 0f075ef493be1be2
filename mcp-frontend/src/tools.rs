//! The tools. Each turns its arguments into a verb of `service` and the answer back; no more.

mod contexts;
mod files;
mod interactive;
mod runs;
mod sandboxes;

use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolResult, ContentBlock},
    service::RequestContext,
};
use serde::Serialize;
use service::{Code, Error};

use crate::server::Server;

pub(crate) type Context = RequestContext<RoleServer>;
pub(crate) type ToolResult = Result<CallToolResult, ErrorData>;

impl Server {
    /// A structured answer, or the error in words.
    pub(crate) fn answer<T: Serialize>(&self, result: Result<T, Error>) -> ToolResult {
        self.told(match result {
            Ok(output) => {
                let value = serde_json::to_value(output)
                    .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                Ok(CallToolResult::structured(value))
            }
            Err(error) => Err(error),
        })
    }

    /// A fault of the sandbox or the request is a result the model can read, not an error of the protocol.
    #[expect(clippy::unnecessary_wraps, reason = "what a tool returns")]
    pub(crate) fn told(&self, result: Result<CallToolResult, Error>) -> ToolResult {
        Ok(result.unwrap_or_else(|error| {
            self.metrics.error(error.code.as_str());
            failure(&error.to_string())
        }))
    }

    /// A verb's result, or another if the process closes first: a connection that ends without a word
    /// would not say what became of it.
    pub(crate) async fn unless_closing<T>(
        &self,
        verb: impl Future<Output = Result<T, Error>>,
        closing: impl FnOnce() -> Error,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = verb => result,
            () = self.shutdown.closing.cancelled() => Err(closing()),
        }
    }

    pub(crate) fn invalid(&self, message: &str) -> ToolResult {
        self.told(Err(Error { code: Code::InvalidArgument, message: message.into() }))
    }
}

/// Of a verb that may be tried again whatever became of it.
pub(crate) fn waits(sandbox: &str) -> Error {
    Error {
        code: Code::Unavailable,
        message: format!(
            "this replica stops, and sandbox {sandbox} has not answered yet. Try again."
        ),
    }
}

fn failure(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
