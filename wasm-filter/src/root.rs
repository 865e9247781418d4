//! The root context: one per plugin and VM. It configures, ticks, and is Envoy's access logger.

use std::rc::Rc;
use std::time::Duration;

use leadsman_filter_logic::config::{Config, Role};
use leadsman_filter_logic::metrics::GlobalCounter;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::http::HttpFilter;
use crate::{account, host, vm};

/// How often the heartbeat beats and the workers compare what they have seen.
const TICK: Duration = Duration::from_secs(5);

pub(crate) struct Root {
    context_id: u32,
    config: Rc<Config>,
}

/// Called by the SDK for each new plugin.
pub(crate) fn create(context_id: u32) -> Box<dyn RootContext> {
    let config = Rc::new(Config::fallback(b""));
    Box::new(Root { context_id, config })
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let root_id = host::property(&["plugin_root_id"]).unwrap_or_default();
        let json = host::plugin_configuration(size);
        let config = Config::parse(&json, &root_id).unwrap_or_else(|error| {
            vm::count_global(GlobalCounter::ConfigErrors);
            host::warn(&format!(
                "leadsman: plugin configuration refused, defaults used: {error}"
            ));
            Config::fallback(&root_id)
        });
        self.config = Rc::new(config);
        host::set_tick_period(TICK);
        // Refusing would take the traffic down with the configuration.
        true
    }

    fn on_tick(&mut self) {
        vm::tick(self.context_id, self.config.stale_grace_ms);
    }

    fn on_log(&mut self) {
        match self.config.role {
            Role::Request => account::request(&self.config),
            Role::Attempt => account::attempt(&self.config),
            Role::Trace => {}
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(HttpFilter::new(Rc::clone(&self.config))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        vm::stop_ticking(self.context_id);
    }
}
