# Plots: where the user opens no device, what is drawn becomes pictures at the end of the cell.

MAX_IMAGE <- 2L * 1024L * 1024L # the largest picture, in bytes: what the front end passes on
DPI <- 100

figures <- tempfile("figures") # the directory of a cell's pictures, each page a file
opened <- 0L

# Opens a device as R asks for one. Its size is set as in Jupyter.
open_device <- function(...) {
  dir.create(figures, showWarnings = FALSE)
  opened <<- opened + 1L
  grDevices::png(
    file.path(figures, sprintf("%06d-%%06d.png", opened)),
    width = getOption("repr.plot.width", 7), height = getOption("repr.plot.height", 5),
    units = "in", res = DPI
  )
}

# Closes the devices that are ours, and shows what was drawn.
show_figures <- function() {
  for (device in grDevices::dev.list()) {
    path <- attr(.Devices[[device]], "filepath")
    if (!is.null(path) && dirname(path) == figures) grDevices::dev.off(device)
  }
  for (path in list.files(figures, full.names = TRUE)) {
    picture <- readBin(path, "raw", file.size(path))
    unlink(path)
    if (length(picture) > MAX_IMAGE) {
      say("[image/png is left out: ", length(picture), " bytes are too many, save it to a file]")
    } else {
      size <- readBin(picture[17:24], "integer", 2L, endian = "big") # where PNG has it
      show_forms(list("text/plain" = sprintf("<plot of %dx%d pixels>", size[1L], size[2L]), "image/png" = picture))
    }
  }
}

if (capabilities("png")) options(device = open_device)
