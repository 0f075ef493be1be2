# Runs cells in one lasting workspace, for the agent that started this R (4.0 or newer).
#
# What comes in and goes out over the private pipes is what python/channel.py says. A pipe is opened for
# one message and closed behind it: a connection that stays would be listed by showConnections() and
# ended by closeAllConnections(), which belong to the user.
#
# The agent joins the files of this directory to one program: they share an environment that nothing of
# the user's leads to. Interrupts are suspended in all of it but the user's own code (cells.R).

MAX_TEXT <- 64L * 1024L # the longest text of a value or an exception, in bytes
MAX_NAME <- 200L # the longest name of an exception

process <- Sys.getpid()

# The next request: the number of a cell, and its source as bytes. NULL where the agent has gone.
receive <- function() {
  requests <- file("/dev/fd/3", "rb", raw = TRUE)
  on.exit(close(requests))
  line <- readLines(requests, 1L)
  if (length(line) == 0L) return(NULL)
  words <- strsplit(line, " ")[[1L]]
  list(number = words[1L], source = readBin(requests, "raw", as.integer(words[2L])))
}

# Sends one event.
send <- function(header, payload = raw()) {
  header <- charToRaw(header)
  lengths <- writeBin(c(length(header), length(payload)), raw(), endian = "big")
  events <- file("/dev/fd/4", "wb", raw = TRUE)
  on.exit(close(events))
  writeBin(c(lengths, header, payload), events)
}

# Text as UTF-8, with escapes for what is none.
text <- function(value) iconv(enc2utf8(paste(value, collapse = "\n")), "UTF-8", "UTF-8", sub = "byte")

# Text of a bounded length, which says so where it was cut.
bounded <- function(value) {
  value <- text(value)
  data <- charToRaw(value)
  if (length(data) <= MAX_TEXT) return(value)
  cut <- iconv(rawToChar(data[seq_len(MAX_TEXT)]), "UTF-8", "UTF-8", sub = "")
  paste0(cut, "\u2026 (", length(data), " bytes in all)")
}

# Text as a string of JSON.
json <- function(value) {
  codes <- utf8ToInt(value)
  characters <- intToUtf8(codes, multiple = TRUE)
  special <- codes < 32L | codes == 34L | codes == 92L
  characters[special] <- sprintf("\\u%04x", codes[special])
  paste0(c("\"", characters, "\""), collapse = "")
}

# Tells the user something on stderr.
say <- function(...) cat(..., "\n", sep = "", file = stderr())
