// All that reads torch's headers, compiled at once: to read them takes most of the
// time.
#include "convolution_operator.cpp"
#include "deployed_file.cpp"
#include "model_parallel.cpp"
#include "model_serial.cpp"
