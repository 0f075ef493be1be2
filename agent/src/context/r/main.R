# The loop: a cell comes, runs, shows what it leaves, and is over.

serve <- function() {
  repeat {
    request <- receive()
    if (is.null(request)) quit("no", runLast = FALSE)
    # One that came when its cell was over already: nothing but a wait is sure to notice it.
    tryCatch(allowInterrupts(Sys.sleep(0)), interrupt = function(raised) NULL)
    succeeded <- run(request$source, sprintf("<cell %s>", request$number))
    send(sprintf("{\"type\":\"done\",\"number\":%s,\"status\":%d}", request$number, if (succeeded) 0L else 1L))
  }
}

unlockBinding(".Last.value", baseenv()) # R's own top level, too, pays no heed to its lock
# What is left of the line that has loaded us would be the user's first input.
readLines(stdin())
suspendInterrupts({
  send("{\"type\":\"ready\"}")
  serve()
})
