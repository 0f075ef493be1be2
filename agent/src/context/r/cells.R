# Cells as R evaluates what is typed, and conditions as users should read them.

MAX_CALL <- 200L # the longest call of a traceback, in characters
MAX_FRAMES <- 10L # how many calls are told of each end of a traceback

# Evaluates the user's code. Tracebacks begin behind this call of eval.
evaluate <- function(code, place) eval(code, place)
OUR_CALL <- quote(eval(code, place))

place <- NULL # of the expression that is evaluated

# Runs a cell: values are printed where they are visible, and the last expression's is given back in its forms.
execute <- function(source, name) {
  source <- rawToChar(source)
  Encoding(source) <- "UTF-8"
  lines <- strsplit(sub("^\ufeff", "", source), "\r?\n")[[1L]]
  cell <- parsed(lines, name)
  for (at in seq_along(cell)) {
    place <<- attr(cell, "srcref")[[at]]
    value <- withVisible(evaluate(cell[at], globalenv()))
    assign(".Last.value", value$value, baseenv())
    if (!value$visible) next
    if (at == length(cell)) return(forms_of(value$value))
    print_value(value$value)
  }
  NULL
}

# The expressions of a cell. They know its lines: tracebacks name them, and functions are printed as they were written.
parsed <- function(lines, name) {
  tryCatch(
    parse(text = lines, srcfile = srcfilecopy(name, lines), keep.source = TRUE, encoding = "UTF-8"),
    error = function(error) {
      # As newer versions of R call it.
      stop(structure(list(message = conditionMessage(error), call = NULL), class = c("parseError", "error", "condition")))
    }
  )
}

# Runs a cell, shows what it leaves, and says whether it ended without an error.
run <- function(source, name) {
  error <- NULL
  frames <- list()
  place <<- NULL
  forms <- tryCatch(
    withCallingHandlers(
      allowInterrupts(execute(source, name)),
      warning = tell_warning,
      error = function(raised) frames <<- own_frames(sys.calls())
    ),
    error = function(raised) {
      error <<- raised
      NULL
    },
    interrupt = function(raised) {
      error <<- structure(list(message = "the cell was interrupted", call = NULL), class = c("interrupt", "condition"))
      frames <<- list()
      NULL
    }
  )
  # The user's code has forked and its child came back here: that ends, and takes nothing of R's along.
  if (Sys.getpid() != process) tools::pskill(Sys.getpid(), tools::SIGKILL)
  if (!is.null(forms)) show_forms(forms, result = TRUE)
  # Before the error, and not in the next cell.
  tryCatch(show_figures(), error = function(error) say(told("[a plot is left out", error), "]"))
  if (!is.null(error)) show_error(error, frames)
  is.null(error)
}

# Tells of a warning at once: R's own top level, which would tell of it later, is never reached.
tell_warning <- function(warning) {
  level <- getOption("warn", 0)
  if (level > 1) return() # R makes an error of it
  if (level >= 0) say(told("Warning", warning))
  if (!is.null(findRestart("muffleWarning", warning))) invokeRestart("muffleWarning")
}

# A condition as R tells of it.
told <- function(what, condition) {
  call <- own_call(conditionCall(condition))
  place <- if (is.null(call)) "" else paste0(" in ", one_line(call), " ")
  paste0(what, place, ": ", text(conditionMessage(condition)))
}

# What was called by the user, if not by us.
own_call <- function(call) if (!identical(call, OUR_CALL)) call

one_line <- function(call) substr(text(deparse(call, nlines = 1L)[1L]), 1L, MAX_CALL)

# How R itself brings an error to those who handle it.
CARRIERS <- c(".handleSimpleError", "doWithOneRestart", "withOneRestart", "withRestarts", ".signalSimpleWarning")

# The calls that have led from the cell to an error: neither ours, the handler among them, nor R's own.
own_frames <- function(calls) {
  ours <- which(vapply(calls, identical, NA, OUR_CALL))
  if (length(ours) == 0L) return(list())
  first <- max(ours) + 1L
  last <- length(calls) - 1L
  while (last >= first && one_line(calls[[last]][[1L]]) %in% CARRIERS) last <- last - 1L
  if (first > last) list() else calls[first:last]
}

# The calls as traceback() tells of them, the innermost first.
lines_of <- function(frames) {
  numbers <- rev(seq_along(frames))
  if (length(numbers) > 2L * MAX_FRAMES) {
    numbers <- c(utils::head(numbers, MAX_FRAMES), NA, utils::tail(numbers, MAX_FRAMES))
  }
  vapply(numbers, function(number) {
    if (is.na(number)) return(sprintf("... %d calls ...", length(frames) - 2L * MAX_FRAMES))
    call <- frames[[number]]
    paste(c(paste0(number, ": ", one_line(call)), place_of(attr(call, "srcref"))), collapse = " ")
  }, "")
}

# Where something stands, as traceback() says it.
place_of <- function(place) if (!is.null(place)) sprintf("at %s#%d", attr(place, "srcfile")$filename, place[1L])

# Shows an error.
show_error <- function(error, frames) {
  name <- class(error)[1L]
  if (name == "simpleError") name <- "Error"
  message <- tryCatch(conditionMessage(error), error = function(error) "an error whose message cannot be had")
  frames <- if (length(frames)) lines_of(frames) else place_of(place)
  traceback <- c(tryCatch(told("Error", error), error = function(error) message), frames)
  send(sprintf(
    "{\"type\":\"exception\",\"name\":%s,\"value\":%s,\"traceback\":%s}",
    json(text(substr(name, 1L, MAX_NAME))), json(bounded(message)), json(bounded(traceback))
  ))
}
