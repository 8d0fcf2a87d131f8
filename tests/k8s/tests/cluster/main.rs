//! The deployment as it is shipped, in a real Kubernetes 1.34 and on a real Kafka: the life of the reference deployment with
//! Azure's overlay. Run by `./mill test k8s`.

mod life;
mod updates;
mod scaling;
mod certificates;
mod components;
