#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n%s, this is release %s, process %s.\n' "$GREETING" "$RELEASE" "$PROCESS"
