//! Responses that Envoy refuses, and what it takes of them all the same.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint;
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use leadsman_tests::ads;
use leadsman_tests::ads::Kind::{Clusters, Endpoints};

use crate::stage::{assignment, begun, cluster, has, host, impossible, on, ports, ring_hash, sorted, stat, weighing};

crate::observations! {
    l15_endpoints_that_break_a_rule_of_the_api_spoil_the_whole_response
    l16_endpoints_that_can_not_be_applied_leave_it_to_chance_which_others_are
    l17_a_cluster_that_can_not_be_made_spoils_only_itself_and_the_memory_of_the_others
}

/// `INTERNAL`, with which Envoy refuses everything.
const INTERNAL: i32 = 13;

async fn l15_endpoints_that_break_a_rule_of_the_api_spoil_the_whole_response(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a"), &cluster("b")]).await;
    let weightless = ads::endpoints("2", &assignment("b", &[weighing(host(9002), 0)]));
    ads.say(Endpoints, &[on("2", "a", &[9002]), weightless], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds nack 3"]);
    let (code, text) = ads.refusal().unwrap();
    assert_eq!(code, INTERNAL, "{text}");
    assert!(text.contains("LoadBalancingWeight"), "{text}");
    assert_eq!(ports(&envoy, "a").await, Some([9001].into()));
    assert_eq!(ports(&envoy, "b").await, Some([9001].into()));
}

async fn l16_endpoints_that_can_not_be_applied_leave_it_to_chance_which_others_are(version: &str) {
    let others: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let mut clusters: Vec<Cluster> = others.iter().map(|name| cluster(name)).collect();
    clusters.push(ring_hash(cluster("r")));
    let (mut ads, envoy) = begun(version, &clusters.iter().collect::<Vec<_>>()).await;
    let good: Vec<Resource> = others.iter().map(|name| on("2", name, &[9002])).collect();
    let heavy: Vec<LbEndpoint> = [9002, 9003].map(|port| weighing(host(port), u32::MAX)).to_vec();
    let mut all = good.clone();
    all.push(ads::endpoints("2", &assignment("r", &heavy)));
    ads.say(Endpoints, &all, &[]).await;
    assert_eq!(ads.hears(1).await, ["eds nack 3"]);
    let (code, text) = ads.refusal().unwrap();
    assert_eq!(code, INTERNAL, "{text}");
    assert!(text.contains("exceeds 4294967295"), "{text}");
    assert_eq!(ports(&envoy, "r").await, Some([9001].into()));
    // Envoy goes through them in the order of a hash map and ends at the first that fails. What was before it is applied.
    let (old, new) = (Some([9001].into()), Some([9002].into()));
    for name in &others {
        let has = ports(&envoy, name).await;
        assert!(has == old || has == new, "{name} has {has:?}");
    }
    // So all of them have to be sent again, and that helps.
    ads.say(Endpoints, &good, &[]).await;
    assert_eq!(ads.hears(1).await, ["eds ack 4"]);
    for name in &others {
        has(&envoy, name, &[9002]).await;
    }
    assert_eq!(ports(&envoy, "r").await, Some([9001].into()));
}

async fn l17_a_cluster_that_can_not_be_made_spoils_only_itself_and_the_memory_of_the_others(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    let clusters = [ads::cluster("1", &cluster("c")), ads::cluster("1", &impossible("d"))];
    ads.say(Clusters, &clusters, &[]).await;
    assert_eq!(ads.hears(1).await, ["eds +c"]);
    ads.say(Endpoints, &[on("1", "c", &[9001])], &[]).await;
    assert_eq!(sorted(ads.hears(2).await), ["cds nack 3", "eds ack 4"]);
    let (code, text) = ads.refusal().unwrap();
    assert_eq!(code, INTERNAL, "{text}");
    assert!(text.contains("Error adding/updating cluster(s) d: "), "{text}");
    has(&envoy, "c", &[9001]).await;
    assert_eq!(ports(&envoy, "d").await, None);
    assert_eq!(stat(&envoy, "c", "init_fetch_timeout").await, 0);
    // On the next stream it does not say that it has `c`, which it has.
    ads.cut();
    assert_eq!(ads.hears(3).await, ["stream", "cds has a", "eds +a +c has a c"]);
}
