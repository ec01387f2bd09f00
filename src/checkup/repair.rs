//! Repair: what is broken goes, and nothing else. An image that a container uses stays, and its layers
//! with it: the container may live on what is whole of them.

use super::{Checkup, Finding, Outcome, Remedy, Report};
use crate::container::uses;
use crate::storage::{StorageError, Store};
use crate::sys::{ShuttingDown, blocking};

#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    ShuttingDown(#[from] ShuttingDown),
}

impl Checkup {
    /// Repairs what a report has found, in `store`. `force`: damaged containers, and those that stand
    /// in the way of removing a damaged image, are ended and removed; it needs a running daemon.
    pub async fn repair(&self, report: &mut Report, store: &Store, force: bool) {
        let mut findings = std::mem::take(&mut report.findings);
        for finding in &mut findings {
            finding.outcome = self.repair_one(finding, store, force).await;
        }
        report.findings = findings;
        let store = store.clone();
        let freed = blocking(move || Ok::<_, RepairError>(store.collect()?)).await;
        if let Err(error) = freed {
            tracing::warn!(%error, "layers without an image not freed");
        }
    }

    async fn repair_one(&self, finding: &Finding, store: &Store, force: bool) -> Outcome {
        match &finding.remedy {
            Remedy::ByHand(text) => Outcome::Stays(text.clone()),
            Remedy::RemoveContainer(id) if force => self.remove_container(id).await,
            Remedy::RemoveContainer(_) => Outcome::Stays(
                "--repair removes no container; with --force it does, or the kubelet or `crictl rm`"
                    .to_owned(),
            ),
            Remedy::RemoveImages(ids) => {
                let mut gone = Vec::new();
                for id in ids {
                    match self.remove_image(id, store, force).await {
                        Ok(()) => gone.push(id.clone()),
                        Err(problem) => return Outcome::Stays(problem),
                    }
                }
                Outcome::Repaired(format!("image {} removed; pull it again", gone.join(", ")))
            }
        }
    }

    async fn remove_image(&self, id: &str, store: &Store, force: bool) -> Result<(), String> {
        if force && let Some(house) = &self.house {
            let all = house.containers.all();
            let using = all.iter().filter(|container| {
                uses(&container.record())
                    .iter()
                    .any(|(image, _)| image == id)
            });
            for container in using {
                let container = container.record().id.to_string();
                let removed = house.containers.remove(&container).await;
                removed.map_err(|error| format!("container {container} not removed: {error}"))?;
            }
        }
        let (this, image, store) = (self.clone(), id.to_owned(), store.clone());
        let removed = blocking(move || {
            Ok::<_, RepairError>(store.remove_image(&image, &|| this.user_of(&image))?)
        });
        match removed.await {
            // `false`: it is gone already, or opening the store has set it aside.
            Ok(_) => Ok(()),
            Err(RepairError::Storage(StorageError::ImageInUse { user, .. })) => Err(format!(
                "image {id} is used by {user}; have that removed (crictl rm -f), then repair again"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn remove_container(&self, id: &str) -> Outcome {
        let Some(house) = &self.house else {
            return Outcome::Stays("start the daemon and repair again: it ends containers".into());
        };
        match house.containers.remove(id).await {
            Ok(()) => Outcome::Repaired(format!("container {id} removed")),
            Err(error) => Outcome::Stays(error.to_string()),
        }
    }

    /// Who uses the image: by the daemon's word, or without one by the records. A record that cannot be
    /// read may use any.
    fn user_of(&self, image: &str) -> Option<String> {
        if let Some(house) = &self.house {
            return house.containers.user_of_image(image);
        }
        let recorded = match self.recorded() {
            Ok(recorded) => recorded,
            Err(error) => return Some(format!("nobody knows whom: {error}")),
        };
        if let Some(id) = recorded.aside.first() {
            return Some(format!("perhaps {id}, whose record was not understood"));
        }
        recorded
            .containers
            .into_iter()
            .find_map(|(id, record)| match record {
                Ok(record) => {
                    let mut uses = uses(&record).into_iter();
                    uses.find_map(|(used, user)| (used == image).then_some(user))
                }
                Err(_) => Some(format!(
                    "perhaps container {id}, whose record is not understood"
                )),
            })
    }
}
