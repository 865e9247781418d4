//! Every way in which the two ends can differ, from whole answers of both.

use serde_json::json;

use super::*;

fn endpoint(port: u16, health: &str, weight: u32) -> Value {
    json!({
        "endpoint": { "address": { "socket_address": { "address": "10.0.0.1", "port_value": port } } },
        "health_status": health,
        "metadata": { "filter_metadata": { "leadsman": { "rev": "1", "src": "shop" } } },
        "load_balancing_weight": weight,
    })
}

fn assignment(name: &str, zone: &str, endpoints: &[Value]) -> Value {
    json!({ "cluster_name": name, "endpoints": [{ "locality": { "zone": zone }, "lb_endpoints": endpoints }] })
}

fn cluster(name: &str, timeout: &str) -> Value {
    json!({ "name": name, "type": "EDS", "connect_timeout": timeout })
}

fn resource(name: &str, status: &str, content: &Value) -> Value {
    json!({ "name": name, "status": status, "version": "1", "sent_version": "1", "content": content })
}

fn wanted(clusters: &[Value], assignments: &[Value]) -> ProxyResources {
    let nack = json!({ "at": "2026-01-01T00:00:00.000Z", "message": "no such luck" });
    let of = |type_url: &str, resources: &[Value]| {
        json!({
            "type_url": format!("type.googleapis.com/envoy.config.{type_url}"), "status": "SYNCED", "last_nack": nack,
            "resources": resources,
        })
    };
    serde_json::from_value(json!({
        "id": "edge-1#1", "node_id": "edge-1",
        "types": [of("cluster.v3.Cluster", clusters), of("endpoint.v3.ClusterLoadAssignment", assignments)],
    }))
    .unwrap()
}

fn held(active: &[Value], warming: &[Value], assignments: &[Value]) -> Held {
    let list = |clusters: &[Value]| -> Value {
        clusters
            .iter()
            .map(|cluster| json!({ "version_info": "x", "cluster": cluster }))
            .collect()
    };
    let endpoints: Value = assignments.iter().map(|a| json!({ "endpoint_config": a })).collect();
    let dump = json!({ "configs": [
        { "static_clusters": list(&[cluster("leadsman", "9s")]),
          "dynamic_active_clusters": list(active), "dynamic_warming_clusters": list(warming) },
        { "dynamic_endpoint_configs": endpoints },
    ] });
    // Envoy's dump takes draining for unhealthy; this page does not.
    let draining = json!({
        "address": { "socket_address": { "address": "10.0.0.1", "port_value": 2 } },
        "health_status": { "eds_health_status": "DRAINING" },
    });
    let statuses = json!({ "cluster_statuses": [{ "name": "orders", "host_statuses": [draining] }] });
    Held::read(&dump, &statuses)
}

#[track_caller]
fn check(wanted: &ProxyResources, held: &Held, table: &str) {
    let differences = compare(wanted, held);
    let comparison = Comparison {
        proxy: wanted.id.clone(),
        same: differences.is_empty(),
        clusters: 1,
        assignments: 1,
        differences,
    };
    assert_eq!(text(&comparison), table);
}

#[test]
fn what_is_the_same_is_the_same_in_any_order_and_notation() {
    let ends = [endpoint(1, "UNKNOWN", 1), endpoint(2, "DRAINING", 1)];
    let wanted = wanted(
        &[resource("orders", "SYNCED", &cluster("orders", "1s"))],
        &[resource("orders", "SYNCED", &assignment("orders", "a", &ends))],
    );
    let mut typed = cluster("orders", "1s");
    typed["@type"] = json!("type.googleapis.com/envoy.config.cluster.v3.Cluster");
    let mut bare = endpoint(1, "HEALTHY", 1);
    bare.as_object_mut().unwrap().remove("load_balancing_weight");
    let shown = [endpoint(2, "UNHEALTHY", 1), bare];
    let held = held(&[typed], &[], &[assignment("orders", "a", &shown)]);
    check(&wanted, &held, "edge-1#1: the same, 1 clusters and 1 assignments\n");
}

#[test]
fn every_difference_is_named_with_what_both_ends_have() {
    let names = ["changed", "gone", "refused", "slow", "fixed"];
    let clusters: Vec<Value> = names
        .iter()
        .map(|name| {
            let status = match *name {
                "refused" => "ERROR",
                "gone" => "STALE",
                _ => "SYNCED",
            };
            resource(name, status, &cluster(name, "1s"))
        })
        .chain([resource("orders", "SYNCED", &cluster("orders", "1s"))])
        .collect();
    let ends = [
        endpoint(1, "HEALTHY", 1),
        endpoint(2, "HEALTHY", 5),
        endpoint(3, "HEALTHY", 1),
    ];
    let wanted = wanted(
        &clusters,
        &[
            resource("gone", "SYNCED", &assignment("gone", "a", &ends)),
            resource("orders", "SYNCED", &assignment("orders", "a", &ends)),
            resource("fixed", "NOT_SENT", &assignment("fixed", "a", &ends[..1])),
        ],
    );
    let held = held(
        &[
            cluster("changed", "2s"),
            cluster("left", "1s"),
            cluster("orders", "1s"),
            cluster("fixed", "1s"),
        ],
        &[cluster("slow", "1s")],
        &[
            assignment("left", "a", &ends[..1]),
            assignment("orders", "b", &[endpoint(2, "UNHEALTHY", 6), endpoint(4, "HEALTHY", 1)]),
        ],
    );
    check(
        &wanted,
        &held,
        "\
TYPE  NAME     DIFFERENCE  FIELD                SERVER      ENVOY       WHY
cds   changed  different   connect_timeout      1s          2s          -
cds   gone     missing     -                    -           -           sent, and not answered yet
cds   left     extra       -                    -           -           -
cds   refused  nacked      -                    -           -           no such luck
cds   slow     warming     -                    -           -           -
eds   fixed    missing     10.0.0.1:1           healthy w1  -           not sent yet
eds   left     extra       10.0.0.1:1           -           healthy w1  -
eds   orders   different   10.0.0.1:1           healthy w1  -           -
eds   orders   different   10.0.0.1:2 health    HEALTHY     DRAINING    -
eds   orders   different   10.0.0.1:2 weight    5           6           -
eds   orders   different   10.0.0.1:2 locality  /a          /b          -
eds   orders   different   10.0.0.1:3           healthy w1  -           -
eds   orders   different   10.0.0.1:4           -           healthy w1  -
",
    );
}

#[test]
fn whatever_an_envoy_answers_is_read_without_harm() {
    for answer in [
        json!(null),
        json!([]),
        json!({ "configs": 7 }),
        json!({ "configs": [[], { "static_clusters": [1] }] }),
    ] {
        let _ = Held::read(&answer, &answer);
    }
}
