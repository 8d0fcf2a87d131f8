//! What is shipped for a deployment, looked at without a cluster: the image, the manifests, the guide. Run by
//! `./mill test k8s`.

mod image;
mod manifests;
mod guide;
