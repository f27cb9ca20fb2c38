"""The commands of `ffcv-ssl`, one module each.

Every module has a function `main(argv) -> int`. `argv` holds the arguments that follow the
command's name; None takes those of the process. The function returns the exit status. It raises a
`FfcvSslError` or an `OSError` for invalid input, which `ffcv_ssl.cli.status.exit_status` turns into
a line on standard error, and `SystemExit` with status 0 after `--help`.
"""
