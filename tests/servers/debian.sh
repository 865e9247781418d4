# Sourced by what takes programs from Debian or Ubuntu packages: no root, nothing is installed.

# begin DIRECTORY PACKAGE...: an empty $work beside the directory, and $apt that knows the packages.
begin() {
  work=$1.partial
  shift
  for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: $* are taken from Debian or Ubuntu packages" >&2; exit 1; }
  done
  rm -rf "$work"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  # The lists of the machine, or, where it has none, lists of our own.
  apt="-o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::Cache=$work/cache"
  if ! apt-cache show "$@" >/dev/null 2>&1; then
    apt="$apt -o Dir::State::Lists=$work/lists"
    apt-get $apt -qq update
  fi
}

# unpack INTO PACKAGE...
unpack() {
  into=$1
  shift
  (cd "$work" && apt-get $apt -qq download "$@")
  for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$into"
  done
}
