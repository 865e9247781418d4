//! Why each endpoint is where it is, in Leadsman's own words.

use anyhow::Context;
use serde_json::Value;

use crate::demo::screen::Screen;
use crate::demo::wait::{SOON, eventually, expect};
use crate::demo::world::{NODE, ORDERS, World};

/// Shows `leadsman explain`, and checks that it names whatever one would ask for.
///
/// # Errors
/// When it does not.
pub(crate) async fn explain(screen: &mut Screen, world: &mut World) -> anyhow::Result<()> {
    let explanation = eventually(
        SOON,
        &format!("{NODE} to have acked the newest assignment"),
        async || {
            let path = format!("/api/v1/explain/{ORDERS}");
            let explanation = world.leadsman.api(&path).await;
            let newest = &explanation["resources"]["assignment_version"];
            let proxy = own_proxy(&explanation);
            let acked = proxy.is_some_and(|proxy| proxy["assignment"] == "acked" && proxy["version"] == *newest);
            if acked && newest.is_string() {
                Ok(explanation)
            } else {
                Err(explanation["proxies"].to_string())
            }
        },
    )
    .await?;
    let shown = world.leadsman.ask(&["explain", ORDERS]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    expect(
        shown.status.success(),
        "leadsman explain to answer",
        &String::from_utf8_lossy(&shown.stderr),
    )?;
    screen.line(&format!(
        "    $ target/debug/leadsman explain {ORDERS} --server http://{}",
        world.leadsman.admin()
    ));
    screen.quote(&text);
    check(world, &explanation, &text)?;
    let raw = explanation["endpoints"][0]["raw"].as_str().unwrap_or_default();
    screen.fact("raw record (-o json)", raw);
    screen.fact(
        "named for each endpoint",
        "source, record, raw record, layout, health, weight",
    );
    let version = &explanation["resources"]["assignment_version"];
    screen.fact(
        "acknowledged by",
        &format!("{NODE}, assignment {}", version.as_str().unwrap_or("?")),
    );
    Ok(())
}

fn check(world: &World, explanation: &Value, text: &str) -> anyhow::Result<()> {
    let endpoints = explanation["endpoints"].as_array().context("endpoints")?;
    let told = endpoints.iter().filter(|endpoint| endpoint["in_envoy"] == true).count();
    expect(
        told == world.instances.len(),
        &format!("{} endpoints in Envoy", world.instances.len()),
        &told.to_string(),
    )?;
    for instance in world.instances.values() {
        let address = instance.address().to_string();
        let own = endpoints.iter().find(|endpoint| endpoint["address"] == *address);
        let own = own.with_context(|| format!("expected {address} in the explanation, saw {explanation}"))?;
        let named = own["source"] == "shop"
            && own["record"] == instance.key()
            && own["raw"].as_str().is_some_and(|raw| raw.contains("\"port\""))
            && own["layout"] == "leadsman"
            && own["health"] == "healthy"
            && own["weight"] == 1;
        expect(named, &format!("everything about {address}"), &own.to_string())?;
        for word in [&address, instance.key(), "leadsman", "healthy"] {
            expect(text.contains(word), &format!("{word:?} in the output"), text)?;
        }
    }
    for word in [NODE, "acked", "shop"] {
        expect(text.contains(word), &format!("{word:?} in the output"), text)?;
    }
    Ok(())
}

fn own_proxy(explanation: &Value) -> Option<&Value> {
    let mut proxies = explanation["proxies"].as_array()?.iter();
    proxies.find(|proxy| proxy["id"].as_str().is_some_and(|id| id.starts_with(NODE)))
}
