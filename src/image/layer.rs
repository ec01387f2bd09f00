//! One layer on its way: its turn, its place among the downloads, from the network into the store.

use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::image::Descriptor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Images;
use super::error::ImageError;
use super::progress::{LayerProgress, Step};
use super::registry::{Blob, Permit, Places, Session};
use super::turns::{Turn, Want};
use super::unpack::{Into, Job, Piece, Pieces};
use crate::storage::Lease;
use crate::sys::blocking;

/// Pieces of a layer between the socket and the thread that unpacks it. hyper's pieces are at most
/// 408 KiB (its h1 buffer), so this bounds what a layer holds in memory.
const PIECES_IN_FLIGHT: usize = 2;

/// While it holds the token, the pull that has begun a download waits for it at its end.
type AtWork = Arc<Mutex<Option<TaskTrackerToken>>>;

/// A download that this pull has begun. When the pull goes and others want the layer, it is theirs.
struct Begun {
    images: Arc<Images>,
    progress: Arc<LayerProgress>,
    want: Want,
    /// After the wish, which may hold the lease.
    at_work: AtWork,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.want.is_shared() {
            self.images.progress.left(&self.progress);
            let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            drop(at_work.take());
        }
    }
}

/// See the module.
pub(super) struct Layer {
    pub images: Arc<Images>,
    pub session: Arc<Session>,
    pub lease: Arc<Lease>,
    pub unpacking: TaskTracker,
    pub places: Places,
    pub descriptor: Descriptor,
    pub into: Into,
    pub progress: Arc<LayerProgress>,
}

impl Layer {
    /// Downloads and unpacks the layer, unless it is there or comes by another pull.
    pub async fn bring(self) -> Result<(), ImageError> {
        if self.lease.has_layer(self.into.layer()) {
            self.progress.reached(Step::Exists);
            return Ok(());
        }
        let want = self.images.turns.want(self.into.key());
        let mut turn = want.turn().await;
        if self.is_here().await? {
            *turn = None;
            self.progress.reached(Step::Exists);
            return Ok(());
        }
        let begun = Begun {
            images: Arc::clone(&self.images),
            progress: Arc::clone(&self.progress),
            at_work: Arc::new(Mutex::new(Some(self.unpacking.token()))),
            want,
        };
        let at_work = Arc::clone(&begun.at_work);
        let download = tokio::spawn(async move {
            // goes last, also where the download is ended in the middle: what waits for it takes
            // the lease for given up then
            let at_work = at_work;
            self.download(turn, Arc::clone(&at_work)).await
        });
        begun.want.begun(download.abort_handle());
        let brought = download.await;
        brought.unwrap_or_else(|error| Err(ImageError::malformed("layer", error)))
    }

    /// Whether it has come meanwhile; a file of an artifact also under another path.
    async fn is_here(&self) -> Result<bool, ImageError> {
        let Into::File(file) = &self.into else {
            return Ok(self.lease.has_layer(self.into.layer()));
        };
        let (lease, file) = (Arc::clone(&self.lease), file.clone());
        let what = format!("{}: file {}", self.session.repository(), file.path);
        blocking(move || {
            let linked = lease.link_file(&file);
            linked.map_err(|source| ImageError::Storage {
                what,
                source: Arc::new(source),
            })
        })
        .await
    }

    async fn download(self, turn: Turn, at_work: AtWork) -> Result<(), ImageError> {
        let permit = Permit::take(self.places, &self.progress).await;
        let (session, wanted) = (Arc::clone(&self.session), self.descriptor.clone());
        let mut blob = Blob::open(session, wanted, &permit).await?;
        let progress = self.progress;
        let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let stop = CancellationToken::new();
        let window = self.images.windows.of_layer(stop.clone());
        let _ends_with_the_download = stop.drop_guard();
        let lease = Arc::clone(&self.lease);
        let job = Job {
            lease: self.lease,
            into: self.into,
            what: format!(
                "{}: layer {}",
                self.session.repository(),
                self.descriptor.digest()
            ),
            blob: Some(self.descriptor),
            window,
            progress: Some(Arc::clone(&progress)),
        };
        let unpacked = tokio::task::spawn_blocking(move || {
            // they end with the thread, which may outlive a cancelled pull for a moment: the turn
            // with its lease first, what is waited for last
            let _at_work = at_work;
            let _permit = permit;
            let mut turn = turn;
            let unpacked = job.run(Pieces::new(receiver));
            *turn = unpacked.is_ok().then_some(lease);
            unpacked
        });
        loop {
            if let Some(place) = blob.new_place() {
                progress.comes_from(&place);
            }
            progress.listens();
            let piece = match blob.chunk().await {
                Ok(Some(bytes)) => {
                    progress.received(bytes.len());
                    Piece::Data(bytes)
                }
                Ok(None) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            let last = !matches!(piece, Piece::Data(_));
            // nobody receives any more: the thread has failed and says why below
            if sender.send(piece).await.is_err() || last {
                break;
            }
        }
        progress.reached(Step::Unpacking);
        let unpacked = unpacked.await;
        unpacked.unwrap_or_else(|error| Err(ImageError::malformed("layer", error)))?;
        progress.reached(Step::Done);
        Ok(())
    }
}
