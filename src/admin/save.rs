//! `SaveImages`: the image room's archive, part by part.

use std::pin::Pin;

use cricket_proto::admin as wire;
use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::cri::of_image;
use crate::image::{Format, Images, Packing, Part, SaveRequest};

/// The parts of an archive on their way to the client.
pub type Parts = Pin<Box<dyn Stream<Item = Result<wire::SaveImagesPart, Status>> + Send>>;

/// Begins an archive. The client's pace is the archive's; when it goes, the work ends.
pub(super) async fn save(
    images: &Images,
    request: wire::SaveImagesRequest,
) -> Result<Response<Parts>, Status> {
    let format = match request.format() {
        wire::SaveFormat::OciArchive => Format::OciArchive,
        wire::SaveFormat::DockerArchive => Format::DockerArchive,
    };
    let packing = match request.packing() {
        wire::LayerPacking::Unpacked => Packing::None,
        wire::LayerPacking::Gzip => Packing::Gzip,
        wire::LayerPacking::Zstd => Packing::Zstd,
    };
    let request = SaveRequest {
        images: request.images,
        format,
        packing,
    };
    let archive = images.save(request).await;
    let archive = archive.map_err(|error| of_image(&error))?;
    let parts = ReceiverStream::new(archive).map(|part| match part {
        Ok(Part { bytes, done, total }) => Ok(wire::SaveImagesPart {
            data: bytes.into(),
            done_bytes: done,
            total_bytes: total,
        }),
        Err(error) => Err(of_image(&error)),
    });
    Ok(Response::new(Box::pin(parts)))
}
