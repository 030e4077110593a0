// Members of a team of torch's OpenMP runtime, which the caller finds and starts: nothing here is linked to it.
#include <cstdint>

namespace {

struct Team {
    int (*member)();  // omp_get_thread_num
    int (*size)();    // omp_get_num_threads
    void (*run)(int64_t);
    const int32_t* ended;  // (count,): which of them have told the caller how they ended
    int64_t count;  // members that have work: the others keep the team as large as torch left it
    int32_t is_short;
};

}  // namespace

extern "C" void team_member(void* given) {
    Team& team = *static_cast<Team*>(given);
    const int64_t member = team.member();
    if (team.size() < team.count) {  // inside of another team, or by OMP_THREAD_LIMIT
        if (member == 0) team.is_short = 1;
    } else if (member < team.count) {
        team.run(member);
        while (!team.ended[member]) team.run(~member);  // an interrupt came before the caller could catch it
    }
}
