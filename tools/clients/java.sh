# The tests of clients/java: its own, the scenarios, and the cases of ShedLock and of Spring Integration. Read by
# tools/clients.sh. Java and Maven come with tools/setup.sh snippets; the rest from the repository that Maven is set up for.

bring_java() {
    local made=$root/java/made
    command -v mvn >/dev/null || tools/setup.sh snippets
    cmp -s clients/java/pom.xml "$made" && return
    # With a test that does not exist, so that the parts that run tests are brought as well.
    (cd clients/java && mvn -q -B -Dto="$root/java/build" test dependency:build-classpath -Dtest=ReadmeTest#none \
        -Dsurefire.failIfNoSpecifiedTests=false -DincludeScope=test -Dmdep.outputFile="$root/java/libraries")
    cp clients/java/pom.xml "$made"
}

run_java() {
    local status=0 build=$root/java/build
    (cd clients/java && mvn -q -B -o -Dto="$build" test-compile) || return
    # Without a log: a connection that is cut is no news here.
    play java jedis,lettuce java -Djava.util.logging.config.file=/dev/null \
        -cp "$build/test-classes:$build/classes:$(cat "$root/java/libraries")" fencelock.Driver || status=1
    (cd clients/java && timeout -k 10 600 mvn -B -o -Dto="$build" -Dsurefire.timeout=500 -Dstyle.color=never \
        ${TESTS:+-Dtest="*$TESTS*" -Dsurefire.failIfNoSpecifiedTests=false} test) || status=1
    return "$status"
}

count_java() {
    sed -nE 's/^.*Tests run: ([0-9]+), Failures: ([0-9]+), Errors: ([0-9]+), Skipped: ([0-9]+)$/\1 \2 \3 \4/p' | tail -n 1 |
        awk '{ print $1 - $2 - $3 - $4 " passed"; if ($2 + $3) print $2 + $3 " failed"; if ($4) print $4 " skipped" }'
}
