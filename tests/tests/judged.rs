//! Every registry, judged by a real Envoy under load: see [`leadsman_tests::judged`].

use leadsman_tests::judged::{judge, judge_credentials};
use leadsman_tests::rigs::{consul, dns, etcd, eureka, kubernetes, nacos, registry, zookeeper};

/// One test a line: its name, what it does with the rig, and the rig.
macro_rules! tests {
    ($($name:ident => $judge:ident($rig:expr);)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $judge($rig.await).await;
        }
    )+};
}

tests! {
    consul_is_followed_and_survived => judge(consul::Rig::start(leadsman_tests::consul::Setup::default()));
    dns_is_followed_and_survived => judge(dns::Rig::start(leadsman_registry::dns::Transport::Tcp));
    the_registry_of_our_own_is_followed_and_survived => judge(registry::Embedded::start());
    the_registry_of_our_own_that_replicas_share_is_followed_and_survived => judge(registry::Shared::start(leadsman_tests::etcd::Version::V36));
    credentials_of_the_store_that_replicas_share_expire_and_are_renewed => judge_credentials(registry::Shared::start_locked(leadsman_tests::etcd::Version::V36));
    credentials_of_consul_expire_and_are_renewed => judge_credentials(consul::Rig::start_locked());
    etcd_is_followed_and_survived => judge(etcd::Rig::start(leadsman_tests::etcd::Version::V36));
    credentials_of_etcd_expire_and_are_renewed => judge_credentials(etcd::Rig::start_locked(leadsman_tests::etcd::Version::V36));
    eureka_is_followed_and_survived => judge(eureka::Rig::start(leadsman_tests::eureka::Dialect::Legacy));
    credentials_of_eureka_expire_and_are_renewed => judge_credentials(eureka::Rig::start_locked());
    kubernetes_is_followed_and_survived => judge(kubernetes::Rig::start_own(leadsman_tests::kubernetes::Setup::default()));
    credentials_of_kubernetes_expire_and_are_renewed => judge_credentials(kubernetes::Rig::start_locked());
    nacos_is_followed_and_survived => judge(nacos::Rig::start_own(leadsman_tests::nacos::Setup::of(leadsman_tests::nacos::Version::V31), leadsman_registry::nacos::Protocol::Grpc));
    credentials_of_nacos_expire_and_are_renewed => judge_credentials(nacos::Rig::start(leadsman_tests::nacos::Version::V25, leadsman_registry::nacos::Protocol::Grpc));
    zookeeper_is_followed_and_survived => judge(zookeeper::Rig::start());
    credentials_of_zookeeper_expire_and_are_renewed => judge_credentials(zookeeper::Rig::start_locked());
}
