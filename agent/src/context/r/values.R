# Values as people see them: as R prints them, and data frames as tables, too.

MAX_FORM <- 512L * 1024L # the longest other form, in bytes: what the front end passes on
MAX_ROWS <- 60L # how many rows of a table are shown

# Shows one value in its forms, texts or bytes by their MIME types.
show_forms <- function(forms, result = FALSE) {
  data <- lapply(forms, function(form) if (is.raw(form)) form else charToRaw(form))
  lengths <- sprintf("[\"%s\",%d]", names(data), lengths(data))
  send(
    sprintf(
      "{\"type\":\"display\",\"result\":%s,\"id\":\"\",\"update\":false,\"forms\":[%s]}",
      if (result) "true" else "false", paste(lengths, collapse = ",")
    ),
    unlist(data, use.names = FALSE)
  )
}

# All forms of a value; none of one that prints nothing.
forms_of <- function(value) {
  printed <- printed(value)
  if (!nzchar(printed)) return(NULL)
  forms <- list("text/plain" = bounded(printed))
  if (is.data.frame(value)) {
    table <- tryCatch(table_of(value), error = function(error) NULL) # columns can be anything
    if (!is.null(table) && nchar(table, "bytes") <= MAX_FORM) forms[["text/html"]] <- table
  }
  forms
}

# What R prints of a value, without the end of the last line.
printed <- function(value) {
  depth <- sink.number()
  target <- rawConnection(raw(), "wb")
  on.exit({
    while (sink.number() > depth) sink()
    close(target)
  })
  sink(target)
  print_value(value)
  data <- rawConnectionValue(target)
  if (length(data) && data[length(data)] == 0x0a) data <- data[-length(data)]
  printed <- rawToChar(data)
  Encoding(printed) <- "UTF-8"
  printed
}

# Prints a value as R's own top level does.
print_value <- function(value) {
  evaluate(if (isS4(value)) quote(methods::show(value)) else quote(print(value)), environment())
}

# A data frame as a table in HTML, of a bounded number of rows.
table_of <- function(frame) {
  rows <- min(nrow(frame), MAX_ROWS)
  shown <- format(as.data.frame(frame)[seq_len(rows), , drop = FALSE])
  line <- function(tag, cells) {
    cells <- gsub("<", "&lt;", gsub("&", "&amp;", trimws(cells), fixed = TRUE), fixed = TRUE)
    paste0("<tr>", paste0("<", tag, ">", cells, "</", tag, ">", collapse = ""), "</tr>")
  }
  body <- vapply(
    seq_len(rows),
    function(row) line("td", c(rownames(shown)[row], vapply(shown, function(column) column[row], ""))),
    ""
  )
  rest <- if (nrow(frame) > rows) sprintf("<p>%d of %d rows</p>", rows, nrow(frame))
  text(paste0("<table>", line("th", c("", names(shown))), paste0(body, collapse = ""), "</table>", rest))
}
