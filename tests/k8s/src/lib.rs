//! What the tests of the deployment are made of: a real Kubernetes control plane, and in it the reference deployment of
//! `k8s/` on a Kafka of its own. Knows `kubectl`, the names in the manifests and the log lines of `millrace`.

pub mod setting;
pub mod dockerfile;
pub mod kubectl;
pub mod deployment;
pub mod load;
