#ifndef SEVENNET_MF_CONVOLUTION_OPERATOR_H
#define SEVENNET_MF_CONVOLUTION_OPERATOR_H

namespace sevennet_mf {

// Offers sevennet_mf::deployed_convolution, which the fast form of a deployed model
// calls, unless Python in this process has done so. May be called repeatedly.
void register_convolution();

}    // namespace sevennet_mf

#endif
