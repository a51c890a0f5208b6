#!/bin/sh
# Serves the site. VERSION comes with the image.
echo "shop $(cat /app/VERSION) listening on :8080"
exec httpd -f -p 8080 -h /app/site
