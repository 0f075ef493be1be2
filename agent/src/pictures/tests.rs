use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use wire::v1::{Display, Form};

use super::*;
use crate::run::log::Hash;
use crate::run::registry::Registry;

const SIDE: u32 = 1568;
const BYTES: usize = 1 << 20;
const BOUNDS: Bounds = Bounds { side: SIDE, bytes: BYTES, memory: PICTURE_MEMORY };

fn written(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut data = Cursor::new(Vec::new());
    picture.write_to(&mut data, format).unwrap();
    data.into_inner()
}

fn plain(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    written(&DynamicImage::new_rgb8(width, height), format)
}

/// A picture that no format makes smaller.
fn noise(width: u32, height: u32) -> DynamicImage {
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    RgbImage::from_fn(width, height, |_, _| image::Rgb([next(), next(), next()])).into()
}

/// What is said of a picture whose bytes are within the bound and what is said of them.
fn told(data: &[u8], bounds: &Bounds) -> PictureReply {
    let mut reply = small(data, bounds).unwrap();
    let data = std::mem::take(&mut reply.data);
    if !reply.fits {
        assert!(data.len() <= bounds.bytes, "{} bytes", data.len());
        let (format, size) = head(&data).unwrap();
        assert_eq!((format.to_mime_type(), size), (&*reply.mime, (reply.width, reply.height)));
    }
    reply
}

fn scaled(mime: &str, from: (u32, u32), to: (u32, u32)) -> PictureReply {
    PictureReply {
        mime: mime.to_owned(),
        width: to.0,
        height: to.1,
        original_width: from.0,
        original_height: from.1,
        ..PictureReply::default()
    }
}

#[test]
fn what_fits_stays_as_it_is() {
    for data in [
        plain(SIDE, 2, ImageFormat::Png),
        plain(2, SIDE, ImageFormat::Jpeg),
        // Whatever it is: clients may know it.
        b"no picture".to_vec(),
        vec![b'x'; BYTES],
    ] {
        let fits = PictureReply { fits: true, ..PictureReply::default() };
        assert_eq!(small(&data, &BOUNDS), Some(fits));
    }
}

#[test]
fn a_large_picture_is_scaled_in_its_own_format() {
    let wide = plain(2 * SIDE, 20, ImageFormat::Png);
    assert_eq!(told(&wide, &BOUNDS), scaled("image/png", (3136, 20), (1568, 10)));
    let tall = plain(20, 2 * SIDE, ImageFormat::Jpeg);
    assert_eq!(told(&tall, &BOUNDS), scaled("image/jpeg", (20, 3136), (10, 1568)));
}

#[test]
fn a_picture_of_too_many_bytes_becomes_a_jpeg_and_smaller_until_it_fits() {
    for (from, to) in [((700, 600), (700, 600)), ((1200, 1000), (900, 750))] {
        let data = written(&noise(from.0, from.1), ImageFormat::Png);
        assert!(data.len() > BYTES);
        assert_eq!(told(&data, &BOUNDS), scaled("image/jpeg", from, to));
    }
}

#[test]
fn what_cannot_be_scaled_is_none() {
    let broken = vec![b'x'; BYTES + 1];
    let mut cut = plain(2000, 20, ImageFormat::Png);
    cut.truncate(cut.len() / 2);
    for data in [broken, cut] {
        assert_eq!(small(&data, &BOUNDS), None);
    }
}

#[test]
fn bounds_that_nothing_is_within_come_to_an_end() {
    let data = plain(20, 10, ImageFormat::Png);
    for bounds in [Bounds { bytes: 0, ..BOUNDS }, Bounds { side: 0, bytes: 0, ..BOUNDS }] {
        assert_eq!(small(&data, &bounds), None, "{bounds:?}");
    }
}

#[test]
fn a_caller_gets_no_more_than_we_have() {
    let most = |max_side, max_bytes| {
        let request = PictureRequest { max_side, max_bytes, ..PictureRequest::default() };
        let Bounds { side, bytes, memory } = Bounds::asked(&request);
        (side, bytes, memory)
    };
    assert_eq!(most(100, 200), (100, 200, PICTURE_MEMORY));
    assert_eq!(most(u32::MAX, u64::MAX), (2048, 2 << 20, PICTURE_MEMORY));
}

#[test]
fn nothing_is_decoded_that_takes_more_memory_than_it_may() {
    for (format, needs) in [(ImageFormat::Png, 30_000), (ImageFormat::Jpeg, 90_000)] {
        let data = plain(100, 100, format);
        for (memory, fits) in [(needs - 1, false), (needs, true)] {
            let bounds = Bounds { side: 50, memory, ..BOUNDS };
            assert_eq!(small(&data, &bounds).is_some(), fits, "{format:?} {memory}");
        }
    }
}

/// Two kilobytes may unpack to as many megabytes, before the first pixel.
#[test]
fn what_a_picture_brings_along_is_unpacked_within_a_bound() {
    for (length, kept) in [(3000, true), (2 << 20, false)] {
        let mut data = Vec::new();
        let mut encoder = PngEncoder::new(&mut data);
        encoder.set_icc_profile(vec![0; length]).unwrap();
        encoder.write_image(&[0; 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
        let mut decoder = decoder(&data, ImageFormat::Png).unwrap();
        assert_eq!(decoder.icc_profile().unwrap().is_some(), kept, "{length}");
        assert_eq!(head(&data), Some((ImageFormat::Png, (1, 1))));
    }
}

#[test]
fn what_is_see_through_is_on_white() {
    let clear = image::Rgba([9, 9, 9, 0]);
    let half = image::Rgba([0, 100, 255, 51]);
    let picture = image::RgbaImage::from_fn(2, 1, |x, _| if x == 0 { clear } else { half });
    assert_eq!(on_white(&picture.into()).into_raw(), [255, 255, 255, 204, 224, 255]);
}

#[test]
fn a_photograph_that_lies_on_its_side_is_put_upright() {
    let mut data = plain(2 * SIDE, 20, ImageFormat::Jpeg);
    // Orientation 6 in a directory of one entry: turn it by 90 degrees.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    data.splice(2..2, exif.iter().copied());
    assert_eq!(told(&data, &BOUNDS), scaled("image/jpeg", (20, 3136), (10, 1568)));
}

#[test]
fn deep_colours_are_made_of_eight_bits() {
    let mut data = Vec::new();
    let pixels = vec![0x80; 2 * 2000];
    PngEncoder::new(&mut data).write_image(&pixels, 2000, 1, ExtendedColorType::L16).unwrap();
    let reply = small(&data, &BOUNDS).unwrap();
    let made = image::load_from_memory(&reply.data).unwrap();
    assert_eq!((made.color(), made.dimensions()), (image::ColorType::Rgb8, (1568, 1)));
}

#[tokio::test(start_paused = true)]
async fn one_is_scaled_at_a_time_and_nobody_waits_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let (run, _) = registry.start("r", Hash::default(), String::new()).unwrap();
    let form = Form {
        mime: "image/png".to_owned(),
        data: written(&noise(700, 600), ImageFormat::Png).into(),
    };
    run.append(Event::Display(Display { forms: vec![form], ..Display::default() }));
    let request = || PictureRequest {
        run_id: "r".to_owned(),
        mime: "image/png".to_owned(),
        max_side: 100,
        max_bytes: 100_000,
        ..PictureRequest::default()
    };
    let turn = Turn::default();

    let held = turn.lock().await;
    let error = timeout(2 * PICTURE_TURN, picture(&run, request(), &turn)).await.unwrap();
    assert_eq!(error.unwrap_err().code, Code::TooMany);
    drop(held);

    // Nobody waits for this one any more, and it goes on all the same.
    let mut call = Box::pin(picture(&run, request(), &turn));
    assert!(futures::poll!(&mut call).is_pending());
    drop(call);
    assert!(turn.try_lock().is_err());
    let scaled = picture(&run, request(), &turn).await.unwrap();
    assert_eq!((scaled.width, scaled.height), (100, 86));
    assert!(turn.try_lock().is_ok());
}
