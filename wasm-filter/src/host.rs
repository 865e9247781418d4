//! Every call to the host.
//!
//! The SDK's hostcalls panic on a status they do not expect, so each function here says when it may be called, and its
//! callers keep to it. Values are bytes: a header need not be text. The `Context` methods of the SDK, which panic on text
//! that is not UTF-8 and on properties that cannot be read, are not used.

use std::time::UNIX_EPOCH;

use leadsman_filter_logic::lookup::slot::SlotNumber;
use leadsman_filter_logic::lookup::{SharedStore, Version};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType, Status};

/// "Insert if absent" for the host: no stored value ever has this version.
const NEVER_STORED: u32 = u32::MAX;

pub(crate) fn warn(message: &str) {
    // There is nobody to tell that a message could not be written.
    let _ = hostcalls::log(LogLevel::Warn, message);
}

/// The plugin configuration; only in `on_configure`, which gives its size.
pub(crate) fn plugin_configuration(size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size);
    configuration.ok().flatten().unwrap_or_default()
}

/// A property; nothing when it is absent here or cannot be read.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// A property that is an integer.
pub(crate) fn number(path: &[&str]) -> Option<u64> {
    let bytes = property(path)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// All request headers; only in `on_http_request_headers`. Names are checked by Envoy's codecs, values are not.
pub(crate) fn request_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// Replaces all values of a request header by one; only in `on_http_request_headers`.
pub(crate) fn set_request_header(name: &str, value: &str) {
    // A repair that fails leaves the request as it came, which is what happens without the filter.
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value.as_bytes()));
}

/// Removes all values of a request header; only in `on_http_request_headers`.
pub(crate) fn remove_request_header(name: &str) {
    let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
}

/// The first value of a request header; only in `on_log`, where an absent map is an absent header.
pub(crate) fn logged_request_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name)
        .ok()
        .flatten()
}

pub(crate) fn define_counter(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Counter, name).ok()
}

pub(crate) fn increment(counter: u32) {
    // The id came from the host, and a counter that cannot count is no reason to stop.
    let _ = hostcalls::increment_metric(counter, 1);
}

/// Asks for `on_tick`; only from a root context.
pub(crate) fn set_tick_period(period: std::time::Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// Random bytes from Envoy, or nothing when it has none.
pub(crate) fn random() -> Option<[u8; 24]> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Envoy's shared data: one map per process and `vm_id`.
pub(crate) struct SharedData;

impl SharedStore for SharedData {
    fn load(&mut self, slot: SlotNumber) -> (Vec<u8>, Version) {
        match hostcalls::get_shared_data(&slot.key()) {
            Ok((value, version)) => (value.unwrap_or_default(), version.map_or(Version::Absent, Version::At)),
            Err(_) => (Vec::new(), Version::Absent),
        }
    }

    fn swap(&mut self, slot: SlotNumber, value: &[u8], version: Version) -> bool {
        let cas = match version {
            Version::Absent => NEVER_STORED,
            Version::At(version) => version,
        };
        match hostcalls::set_shared_data(&slot.key(), Some(value), Some(cas)) {
            Ok(()) => true,
            // Any other refusal would be refused again.
            Err(status) => status != Status::CasMismatch,
        }
    }

    fn now_ms(&mut self) -> u64 {
        let since_epoch = hostcalls::get_current_time()
            .ok()
            .and_then(|now| now.duration_since(UNIX_EPOCH).ok());
        since_epoch.map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}
