//! The HTTP filter: one context per request.

use std::rc::Rc;

use leadsman_filter_logic::config::{Config, Role, TraceMode};
use leadsman_filter_logic::metrics::GlobalCounter;
use leadsman_filter_logic::trace;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::{account, host, vm};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

pub(crate) struct HttpFilter {
    config: Rc<Config>,
}

impl HttpFilter {
    pub(crate) fn new(config: Rc<Config>) -> Self {
        Self { config }
    }

    fn repair_trace(&self) {
        let headers = host::request_headers();
        let values = |wanted: &str| {
            let matching = headers.iter().filter(|(name, _)| name == wanted);
            matching.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
        };
        let decision = trace::decide(&values(TRACEPARENT), &values(TRACESTATE), &self.config.trace);
        if decision.sets_traceparent() {
            // Duplicates go first; without random bytes the next service starts the trace.
            host::remove_request_header(TRACEPARENT);
            let random = host::random();
            if let Some(value) = random.and_then(|random| decision.traceparent(&random, self.config.trace.sampled)) {
                host::set_request_header(TRACEPARENT, &value);
            }
        }
        if decision.removes_tracestate() {
            host::remove_request_header(TRACESTATE);
        }
        vm::count_global(GlobalCounter::Trace(decision.action()));
    }
}

impl Context for HttpFilter {}

impl HttpContext for HttpFilter {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let repairs = match self.config.role {
            Role::Request | Role::Trace => self.config.trace.mode != TraceMode::Off,
            Role::Attempt => false,
        };
        if repairs {
            self.repair_trace();
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        match self.config.role {
            Role::Request => account::request(&self.config),
            Role::Attempt => account::attempt(&self.config),
            Role::Trace => {}
        }
    }
}
