use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde_json::{Value, json};

use super::*;

const URI: &str = "sandbox://a/runs/r/displays/3";

fn form(mime: &str, data: Vec<u8>) -> Form {
    Form { mime: mime.into(), data: data.into() }
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut data = Cursor::new(Vec::new());
    picture.write_to(&mut data, format).unwrap();
    data.into_inner()
}

fn png(width: u32, height: u32) -> Form {
    form("image/png", encoded(&DynamicImage::new_rgb8(width, height), ImageFormat::Png))
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

/// What a model gets: of each block the type, the media type and the size, in pixels or in bytes.
fn blocks(told: &Told) -> Value {
    told.blocks
        .iter()
        .map(|block| {
            if let Some(image) = block.as_image() {
                let data = BASE64.decode(&image.data).unwrap();
                assert!(data.len() <= MAX_BYTES, "{} bytes", data.len());
                let (_, size) = head(&data).unwrap();
                return json!(["image", image.mime_type, size]);
            }
            let link = block.as_resource_link().unwrap();
            json!(["link", link.uri, link.name, link.mime_type, link.size])
        })
        .collect()
}

fn link(mime: &str, form: &Form) -> Value {
    json!(["link", URI, "picture 1", mime, form.data.len()])
}

#[test]
fn what_fits_is_told_as_it_is() {
    for form in [
        png(MAX_SIDE, 2),
        // Whatever it is: clients may know it.
        form("image/png", b"no picture".to_vec()),
        form("image/gif", vec![b'x'; MAX_BYTES + 1]),
        form("image/webp", vec![b'x'; MAX_BYTES + 1]),
    ] {
        let block = ContentBlock::image(BASE64.encode(&form.data), &*form.mime);
        assert!(!large(&form));
        assert_eq!(told(&form, "picture 1", URI, true), Told { blocks: vec![block], note: None });
    }
}

#[test]
fn a_large_picture_is_scaled_in_its_own_format_and_its_original_linked() {
    let wide = png(2 * MAX_SIDE, 20);
    let tall = encoded(&DynamicImage::new_rgb8(20, 2 * MAX_SIDE), ImageFormat::Jpeg);
    let tall = form("image/jpeg", tall);
    for (form, mime, from, to) in
        [(wide, "image/png", "3136x20", (1568, 10)), (tall, "image/jpeg", "20x3136", (10, 1568))]
    {
        let told = told(&form, "picture 1", URI, true);
        assert_eq!(blocks(&told), json!([["image", mime, to], link(mime, &form)]));
        let said =
            format!("picture 1: scaled from {from} to {}x{}; the original: {URI}", to.0, to.1);
        assert_eq!(told.note, Some(said));
    }
}

#[test]
fn a_picture_of_too_many_bytes_becomes_a_jpeg_and_smaller_until_it_fits() {
    for (width, height, to) in [(700, 600, (700, 600)), (1200, 1000, (900, 750))] {
        let form = form("image/png", encoded(&noise(width, height), ImageFormat::Png));
        assert!(form.data.len() > MAX_BYTES);
        let told = told(&form, "picture 1", URI, true);
        assert_eq!(blocks(&told), json!([["image", "image/jpeg", to], link("image/png", &form)]));
        let said = format!(
            "picture 1: scaled from {width}x{height} to {}x{}, as image/jpeg; the original: {URI}",
            to.0, to.1
        );
        assert_eq!(told.note, Some(said));
    }
}

#[test]
fn what_cannot_be_scaled_is_linked_and_said() {
    let said = |why| Some(format!("picture 1: not shown, since {why}; the original: {URI}"));
    let broken = form("image/png", vec![b'x'; MAX_BYTES + 1]);
    let mut cut = png(2000, 20);
    cut.data.truncate(cut.data.len() / 2);
    for form in [broken, cut] {
        let told = told(&form, "picture 1", URI, true);
        assert_eq!(blocks(&told), json!([link(&form.mime, &form)]));
        assert_eq!(told.note, said("it cannot be scaled"));
    }
    let told = told(&png(2000, 20), "picture 1", URI, false);
    assert_eq!((told.blocks.len(), told.note), (1, said("others are being scaled")));
}

#[test]
fn nothing_is_decoded_that_takes_more_memory_than_it_may() {
    let picture = DynamicImage::new_rgb8(100, 100);
    for (format, needs) in [(ImageFormat::Png, 30_000), (ImageFormat::Jpeg, 90_000)] {
        let data = encoded(&picture, format);
        for (most, fits) in [(needs - 1, false), (needs, true)] {
            assert_eq!(decoded(&data, format, most).is_some(), fits, "{format:?} {most}");
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
    let mut data = encoded(&DynamicImage::new_rgb8(2 * MAX_SIDE, 20), ImageFormat::Jpeg);
    // Orientation 6 in a directory of one entry: turn it by 90 degrees.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    data.splice(2..2, exif.iter().copied());
    let told = told(&form("image/jpeg", data), "picture 1", URI, true);
    assert_eq!(blocks(&told)[0], json!(["image", "image/jpeg", [10, 1568]]));
    assert_eq!(
        told.note,
        Some(format!("picture 1: scaled from 20x3136 to 10x1568; the original: {URI}"))
    );
}

#[test]
fn deep_colours_are_made_of_eight_bits() {
    let mut data = Vec::new();
    let pixels = vec![0x80; 2 * 2000];
    PngEncoder::new(&mut data).write_image(&pixels, 2000, 1, ExtendedColorType::L16).unwrap();
    let scaled = scaled(&data).unwrap();
    let made = image::load_from_memory(&scaled.data).unwrap();
    assert_eq!((made.color(), made.dimensions()), (image::ColorType::Rgb8, (1568, 1)));
}

#[tokio::test(start_paused = true)]
async fn one_is_scaled_at_a_time_and_nobody_waits_for_ever() {
    let turn = TURNS.acquire().await.unwrap();
    assert!(!timeout(2 * TURN, in_turn(|may| may)).await.unwrap());
    drop(turn);
    assert!(in_turn(|may| may && TURNS.available_permits() == 0).await);
    assert_eq!(TURNS.available_permits(), 1);
}
