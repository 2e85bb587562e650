#!/bin/sh
# Stands for npm ci, composer install or go mod download: what is in the cache is not fetched.
set -e
cache=/root/.cache/packages
mkdir -p packages
while read -r name version; do
  if [ ! -e "$cache/$name-$version" ]; then
    echo "downloading $name $version"
    sleep 2
    echo "$name $version" >"$cache/$name-$version"
  else
    echo "$name $version comes from the cache mount"
  fi
  cp "$cache/$name-$version" "packages/$name"
done <dependencies.txt
