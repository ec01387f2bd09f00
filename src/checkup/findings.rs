//! From what is wrong to what it means: which images, which containers, and what to do.

use std::collections::BTreeSet;

use super::{Finding, Outcome, Recorded, Remedy};
use crate::container::{Phase, Record as ContainerRecord};
use crate::state::Id;
use crate::storage::{Examination, Fault, Subject};

pub(super) fn of(examination: &Examination, recorded: &Recorded) -> Vec<Finding> {
    let scene = Scene {
        examination,
        recorded,
    };
    let mut findings: Vec<Finding> = examination
        .faults
        .iter()
        .map(|fault| scene.of_fault(fault))
        .collect();
    findings.extend(scene.of_records());
    findings
}

struct Scene<'a> {
    examination: &'a Examination,
    recorded: &'a Recorded,
}

impl Scene<'_> {
    fn of_fault(&self, fault: &Fault) -> Finding {
        let problem = fault.problem.clone();
        match &fault.subject {
            Subject::Layer(layer) => {
                let images = self.images_with(layer);
                let affects = self
                    .image_names(&images)
                    .chain(self.users_of(layer))
                    .collect();
                let remedy = match images.is_empty() {
                    true => Remedy::ByHand(
                        "no image has it: remove the containers that use it, and it is freed"
                            .into(),
                    ),
                    false => Remedy::RemoveImages(images),
                };
                finding(format!("layer sha256:{layer}"), problem, affects, remedy)
            }
            Subject::Image(id) => {
                let images = vec![id.clone()];
                let affects = self.image_names(&images).collect();
                finding(
                    format!("image {id}"),
                    problem,
                    affects,
                    Remedy::RemoveImages(images),
                )
            }
            Subject::Root(id) => finding(
                format!("root filesystem of container {id}"),
                problem,
                vec![self.container_name(id)],
                Remedy::RemoveContainer(id.clone()),
            ),
            Subject::SetAside(path) => {
                let by_hand = "a newer cricket may understand it; delete it when nobody needs it";
                finding(
                    path.clone(),
                    problem,
                    Vec::new(),
                    Remedy::ByHand(by_hand.into()),
                )
            }
        }
    }

    fn of_records(&self) -> Vec<Finding> {
        let by_hand = |text: &str| Remedy::ByHand(text.to_owned());
        let mut found = Vec::new();
        let broken = |kind: &str, id: &Id, problem: &str| {
            let remedy = "the next start of the daemon sets it aside; what it describes goes on \
                          running and is listed no more";
            let what = format!("record of {kind} {id}");
            finding(what, problem.to_owned(), Vec::new(), by_hand(remedy))
        };
        let mut pods = BTreeSet::new();
        for (id, record) in &self.recorded.pods {
            pods.insert(id);
            if let Err(problem) = record {
                found.push(broken("pod", id, problem));
            }
        }
        for (id, record) in &self.recorded.containers {
            match record {
                Err(problem) => found.push(broken("container", id, problem)),
                Ok(record) => found.extend(self.of_container(record, &pods)),
            }
        }
        for id in &self.recorded.aside {
            let remedy = "a newer cricket may understand it; what it describes may still run: \
                          `cricket wipe` or a reboot ends it";
            let problem = "set aside by a daemon that did not understand it".to_owned();
            found.push(finding(
                format!("record of {id}"),
                problem,
                Vec::new(),
                by_hand(remedy),
            ));
        }
        found
    }

    fn of_container(&self, record: &ContainerRecord, pods: &BTreeSet<&Id>) -> Option<Finding> {
        let lives = matches!(record.phase, Phase::Created | Phase::Running { .. });
        let id = record.id.to_string();
        let problem = if !pods.contains(&record.pod) && !self.recorded.aside.contains(&record.pod) {
            format!("its pod {} has no record", record.pod)
        } else if lives && !self.examination.roots.contains_key(&id) {
            "it has no root filesystem any more".to_owned()
        } else {
            return None;
        };
        let affects = vec![self.container_name(&id)];
        let remedy = Remedy::RemoveContainer(id.clone());
        Some(finding(format!("container {id}"), problem, affects, remedy))
    }

    fn images_with(&self, layer: &str) -> Vec<String> {
        let images = self.examination.images.iter();
        let with = images.filter(|(_, image)| image.layers.iter().any(|one| one == layer));
        with.map(|(id, _)| id.clone()).collect()
    }

    fn image_names<'a>(&'a self, ids: &'a [String]) -> impl Iterator<Item = String> + 'a {
        ids.iter().map(|id| match self.examination.images.get(id) {
            Some(image) if !image.names.is_empty() => format!("image {}", image.names.join(", ")),
            _ => format!("image {id}"),
        })
    }

    fn users_of(&self, layer: &str) -> impl Iterator<Item = String> {
        let roots = self.examination.roots.iter();
        let users = roots.filter(move |(_, layers)| layers.iter().any(|one| one == layer));
        users.map(|(id, _)| self.container_name(id))
    }

    fn container_name(&self, id: &str) -> String {
        let mut records = self.recorded.containers.iter();
        let name = records.find_map(|(_, record)| {
            let record = record.as_ref().ok()?;
            (record.id.as_str() == id).then(|| format!("container {} ({id})", record.name))
        });
        name.unwrap_or_else(|| format!("container {id}"))
    }
}

fn finding(what: String, problem: String, affects: Vec<String>, remedy: Remedy) -> Finding {
    Finding {
        what,
        problem,
        affects,
        remedy,
        outcome: Outcome::Found,
    }
}
