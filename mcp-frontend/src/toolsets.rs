//! Which tools there are: those for everybody, and sets that an administrator adds.

use std::sync::{Arc, LazyLock};

use clap::ValueEnum;
use rmcp::handler::server::router::tool::ToolRouter;

use crate::{schema, server::Server};

pub(crate) type Tools = ToolRouter<Server>;

/// Tools beside those that everybody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toolset {
    /// Make, list, copy, interrupt and delete the interpreters whose state run_code keeps
    Contexts,
    /// Start programs that ask and are answered, at a terminal or not; write to their input; send signals
    Interactive,
}

/// The tools for everybody, made once: the macro's own way makes them anew at every call.
static EVERYBODYS: LazyLock<Arc<Tools>> = LazyLock::new(|| {
    let sandboxes = Server::sandbox_tool_router();
    Arc::new(tidy(sandboxes + Server::run_tool_router() + Server::file_tool_router()))
});

/// The tools of a server that offers these sets, too.
pub(crate) fn tools(sets: &[Toolset]) -> Arc<Tools> {
    if sets.is_empty() {
        return EVERYBODYS.clone();
    }
    let mut tools = Tools::clone(&EVERYBODYS);
    for set in sets {
        tools += match set {
            Toolset::Contexts => tidy(Server::context_tool_router()),
            Toolset::Interactive => tidy(Server::interactive_tool_router()),
        };
    }
    Arc::new(tools)
}

fn tidy(mut tools: Tools) -> Tools {
    for route in tools.map.values_mut() {
        route.attr = schema::tidy(route.attr.clone());
    }
    tools
}
